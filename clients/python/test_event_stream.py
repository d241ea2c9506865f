"""Tests of the Server-Sent Events parser, by the rules and examples of WHATWG HTML, section 9.2."""

import unittest

from rollcall_client import EventParser


def parsed(text, size=None):
    """Parses a text that arrives in pieces of `size` bytes. Returns the blocks as tuples, and the parser."""
    data = text if isinstance(text, bytes) else text.encode()
    size = size or max(1, len(data))
    parser, blocks = EventParser(), []
    for at in range(0, len(data), size):
        blocks += parser.feed(data[at : at + size])
    return [tuple(block) for block in blocks], parser


class EventStream(unittest.TestCase):
    def check(self, text, *expected, retry=None):
        for size in (None, 1, 2, 3, 5):
            with self.subTest(size=size):
                blocks, parser = parsed(text, size)
                self.assertEqual(blocks, list(expected))
                self.assertEqual(parser.retry, retry)

    def test_event_data_and_id(self):
        self.check("event: upsert\ndata: x\nid: 7\n\n", ("upsert", "x", "7"))

    def test_event_without_a_type_is_a_message(self):
        self.check("data: x\n\n", ("message", "x", None))

    def test_type_and_id_do_not_leak_into_the_next_block(self):
        self.check("event: a\nid: 1\ndata: x\n\ndata: y\n\n", ("a", "x", "1"), ("message", "y", None))

    def test_line_ends_lf_cr_and_crlf(self):
        for end in ("\n", "\r", "\r\n"):
            with self.subTest(end=end):
                self.check(f"event: a{end}data: x{end}{end}data: y{end}{end}", ("a", "x", None), ("message", "y", None))

    def test_line_ends_mixed(self):
        self.check("data: x\r\ndata: y\rdata: z\n\r\ndata: w\n\n", ("message", "x\ny\nz", None), ("message", "w", None))

    def test_cr_at_the_end_of_the_bytes_ends_the_block_at_once(self):
        parser = EventParser()
        self.assertEqual([block.data for block in parser.feed(b"data: x\r\r")], ["x"])
        self.assertEqual(list(parser.feed(b"\n")), [])
        self.assertEqual([block.data for block in parser.feed(b"data: y\n\n")], ["y"])

    def test_byte_order_mark_is_skipped_once(self):
        self.check("\ufeffdata: x\n\n", ("message", "x", None))
        self.check("\ufeff\ufeffdata: x\n\ndata: y\n\n", ("message", "y", None))
        self.check("data: x\n\n\ufeffdata: y\n\n", ("message", "x", None))

    def test_several_data_lines_are_joined(self):
        self.check("data: YHOO\ndata: +2\ndata: 10\n\n", ("message", "YHOO\n+2\n10", None))

    def test_empty_data_lines_count(self):
        self.check("data\n\ndata\ndata\n\ndata:", ("message", "", None), ("message", "\n", None))

    def test_one_space_after_the_colon_is_removed(self):
        self.check("data:test\n\ndata: test\n\ndata:  test\n\n", *(("message", x, None) for x in ("test", "test", " test")))

    def test_colons_in_values_stay(self):
        self.check('data: {"a": ":"}\n\n', ("message", '{"a": ":"}', None))

    def test_comment_line_is_skipped(self):
        self.check(": comment\nevent: a\n: comment\ndata: x\n: comment\n\n: comment\n", ("a", "x", None))

    def test_comment_as_a_block_is_skipped(self):
        self.check(": comment\n\ndata: x\n\n: comment\n\n", ("message", "x", None))

    def test_retry_in_a_separate_block(self):
        self.check("retry: 1500\n\ndata: x\n\n", ("message", "x", None), retry=1500)

    def test_retry_in_the_block_of_the_first_event(self):
        self.check("retry: 1500\nevent: snapshot\ndata: x\nid: 1\n\n", ("snapshot", "x", "1"), retry=1500)

    def test_retry_that_is_not_a_number_is_ignored(self):
        for value in ("", "-1", "1.5", "1e3", " 7", "٣", "x"):
            with self.subTest(value=value):
                self.check(f"retry: {value}\n\n")

    def test_retry_of_five_thousand_digits_is_bounded(self):
        self.assertEqual(parsed(f"retry: {'9' * 5000}\n")[1].retry, 10**9)

    def test_incomplete_event_is_dropped(self):
        self.check("data: x\nid: 1\n\ndata: y\nid: 2\n", ("message", "x", "1"))
        self.check("data: x\nid: 1\n\ndata: y\nid: 2", ("message", "x", "1"))

    def test_empty_id_differs_from_no_id(self):
        self.check("data: x\nid\n\ndata: y\nid: \n\n", ("message", "x", ""), ("message", "y", ""))

    def test_id_without_data_counts(self):
        self.check("id: 5\n\n", ("message", None, "5"))

    def test_id_with_a_nul_is_ignored(self):
        self.check("data: x\nid: 1\0\n\n", ("message", "x", None))

    def test_block_without_data_is_not_an_event(self):
        self.check("event: a\n\n")

    def test_unknown_fields_are_ignored(self):
        self.check("Data: x\ndata : x\nfoo: x\nbar\ndata: y\n\n", ("message", "y", None))

    def test_bytes_that_are_not_utf_8_are_replaced(self):
        self.check(b"data: \xff\n\n", ("message", "\ufffd", None))

    def test_long_line_in_small_pieces_takes_linear_time(self):
        blocks, parser = parsed(b"data: " + b"x" * 2_000_000 + b"\n\n", 1000)
        self.assertEqual(len(blocks[0][1]), 2_000_000)
        self.assertEqual(parser.pending_bytes, 0)

    def test_bytes_of_an_endless_event_are_counted(self):
        self.assertEqual(parsed(b"data: " + b"x" * 94, 10)[1].pending_bytes, 100)


if __name__ == "__main__":
    unittest.main()
