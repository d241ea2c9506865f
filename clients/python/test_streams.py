"""Tests of `watch`, `follow` and `poll`, which continue whatever a replica answers."""

import itertools
import json
import logging
import socket
import unittest

from malformed import MALFORMED, SLOW
from rollcall_client import Problem, Rollcall
from scripted_server import BOUND, FakeClock, ScriptedServer, answer, chunks, problem, stream

BAD_QUERY = problem("400 Bad Request", "bad-query")
NOT_STREAMS = {**MALFORMED, "200 with a JSON set": answer("200 OK", {"instances": []})}


def snapshot(*names, id=None, head=""):
    data = json.dumps({"instances": [{"name": name, "new": 1} for name in names], "revision": "…", "new": 2})
    return head + f"event: snapshot\ndata: {data}\n" + (f"id: {id}\n" if id is not None else "") + "\n"


def change(event, name, id=None):
    return f"event: {event}\ndata: {json.dumps({'name': name, 'new': 1})}\n" + (f"id: {id}\n" if id is not None else "") + "\n"


class StreamTest(unittest.TestCase):
    def setUp(self):
        logger = logging.getLogger("rollcall")
        logger.propagate = False
        self.logged = []
        handler = logging.Handler()
        handler.emit = self.logged.append
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        self.clock = FakeClock()

    def begin(self, kind, *script, otherwise=None, filters=None, **options):
        """Starts a generator of the client with one replica."""
        self.replica = ScriptedServer(*script, otherwise=otherwise)
        self.addCleanup(self.replica.close)
        rollcall = Rollcall([self.replica.address], clock=self.clock, **{"timeout": BOUND, **options})
        generator = getattr(rollcall, kind)("shop", "orders", **(filters or {}))
        self.addCleanup(generator.close)
        return generator

    def sent_headers(self, name):
        return [request.headers.get(name) for request in self.replica.requests]

    def ids(self):
        return self.sent_headers("last-event-id")


class Watch(StreamTest):
    def test_any_failure_is_retried_with_the_same_id(self):
        for name, bad_answer in NOT_STREAMS.items():
            with self.subTest(name):
                self.clock = FakeClock()
                again = stream(snapshot("b", id="2"))
                watch = self.begin("watch", stream(snapshot("a", id="1")), bad_answer, bad_answer, again)
                self.assertEqual([next(watch)[0], next(watch)[1]["instances"][0]["name"]], ["snapshot", "b"])
                self.assertEqual(len(self.replica.requests), 4)
                # A 400 may be about the id, so the id is dropped.
                again = None if name == "400 with HTML" else "1"
                self.assertEqual(self.ids(), [None, "1", again, again])
                self.assertEqual(len(self.clock.sleeps), 3)
                self.assertLess(0, min(self.clock.sleeps))

    def test_any_first_failure_is_retried(self):
        for name, bad_answer in NOT_STREAMS.items():
            with self.subTest(name):
                watch = self.begin("watch", bad_answer, stream(snapshot("a", id="1")))
                self.assertEqual(next(watch)[0], "snapshot")

    def test_timeout_is_retried(self):
        for name, bad_answer in SLOW.items():
            with self.subTest(name):
                watch = self.begin("watch", bad_answer, otherwise=stream(snapshot("a", id="1")), timeout=0.5)
                self.assertEqual(next(watch)[0], "snapshot")

    def test_silent_stream_is_replaced(self):
        def silent(connection):
            connection.sendall(stream(snapshot("a", id="1")))
            connection.recv(1)

        watch = self.begin("watch", silent, stream(snapshot("b", id="2")), stream_timeout=0.5)
        self.assertEqual([next(watch)[0], next(watch)[0]], ["snapshot", "snapshot"])
        self.assertEqual(self.ids(), [None, "1"])

    def test_stream_with_comments_only_is_kept(self):
        def send_comments(connection):
            connection.sendall(stream(snapshot("a", id="1")))
            connection.settimeout(0.1)
            for _ in range(15):
                try:
                    connection.recv(1)
                except socket.timeout:
                    connection.sendall(b": comment\n")
            connection.sendall(change("upsert", "b", id="2").encode())

        watch = self.begin("watch", send_comments, stream_timeout=1.0)
        self.assertEqual([next(watch)[0], next(watch)[0]], ["snapshot", "upsert"])
        self.assertEqual(len(self.replica.requests), 1)

    def test_broken_stream_continues_with_the_last_id(self):
        broken = chunks(snapshot("a", id="1"), change("upsert", "b", id="2"), is_complete=False)
        watch = self.begin("watch", broken, stream(change("remove", "b", id="3")))
        self.assertEqual([next(watch)[0] for _ in range(3)], ["snapshot", "upsert", "remove"])
        self.assertEqual(self.ids(), [None, "2"])

    def test_incomplete_event_has_no_effect(self):
        for cut in range(1, len(change("upsert", "b", id="2"))):
            with self.subTest(cut):
                broken = chunks(snapshot("a", id="1"), change("upsert", "b", id="2")[:-cut], is_complete=False)
                watch = self.begin("watch", broken, stream(change("upsert", "c", id="3")))
                self.assertEqual([next(watch)[1].get("name") for _ in range(2)], [None, "c"])
                self.assertEqual(self.ids(), [None, "1"])

    def test_stream_broken_within_a_change_continues_with_a_snapshot(self):
        """If the change were undone, the server would send nothing for the previous id, and the client would keep `b`."""
        broken = chunks(snapshot("a", id="1"), change("upsert", "b"), is_complete=False)
        follow = self.begin("follow", broken, MALFORMED["502"], stream(snapshot("a", id="1")))
        self.assertEqual([sorted(next(follow)) for _ in range(3)], [["a"], ["a", "b"], ["a"]])
        self.assertEqual(self.ids(), [None, None, None])

    def test_id_of_a_block_without_data_counts(self):
        watch = self.begin("watch", stream(snapshot("a") + "id: 5\n\n"), stream(snapshot("b")))
        self.assertEqual([next(watch)[0] for _ in range(2)], ["snapshot", "snapshot"])
        self.assertEqual(self.ids(), [None, "5"])

    def test_empty_id_is_not_sent(self):
        watch = self.begin("watch", stream(snapshot("a", id="1") + change("upsert", "b", id="")), stream(snapshot("c")))
        self.assertEqual([next(watch)[0] for _ in range(3)], ["snapshot", "upsert", "snapshot"])
        self.assertEqual(self.ids(), [None, None])

    def test_malformed_event_asks_for_a_snapshot(self):
        for name, bad in {
            "data that is not JSON": "event: upsert\ndata: <html>\nid: 2\n\n",
            "empty data": "event: upsert\ndata:\nid: 2\n\n",
            "upsert without an instance": "event: upsert\ndata: {}\nid: 2\n\n",
            "remove of a list": "event: remove\ndata: []\nid: 2\n\n",
            "name that is not a string": 'event: remove\ndata: {"name": {}}\nid: 2\n\n',
            "snapshot without instances": "event: snapshot\ndata: {}\nid: 2\n\n",
            "snapshot of numbers": 'event: snapshot\ndata: {"instances": [1]}\nid: 2\n\n',
            "a thousand lists deep": "event: upsert\ndata: " + "[" * 100_000 + "\nid: 2\n\n",
        }.items():
            with self.subTest(name):
                follow = self.begin("follow", stream(snapshot("a", id="1") + bad), stream(snapshot("b", id="3")))
                self.assertEqual([sorted(next(follow)) for _ in range(2)], [["a"], ["b"]])
                self.assertEqual(self.ids(), [None, None])

    def test_unknown_events_are_skipped_and_their_ids_count(self):
        unknown = "event: moved\ndata: x\nid: 2\n\ndata: y\nid: 3\n\n"
        watch = self.begin("watch", stream(snapshot("a", id="1") + unknown), stream(snapshot("b")))
        self.assertEqual([next(watch)[0] for _ in range(2)], ["snapshot", "snapshot"])
        self.assertEqual(self.ids(), [None, "3"])

    def test_retry_counts_after_an_orderly_end(self):
        for name, head in {"in a separate block": "retry: 4000\n\n", "in the first block": "retry: 4000\n"}.items():
            for chance, expected in ((0.0, 2.0), (1.0, 4.0)):
                with self.subTest(name, chance=chance):
                    self.clock = FakeClock(random=chance)
                    watch = self.begin("watch", chunks(snapshot("a", id="1", head=head)), stream(snapshot("b")))
                    self.assertEqual([next(watch)[0] for _ in range(2)], ["snapshot", "snapshot"])
                    self.assertEqual(self.clock.sleeps, [expected])

    def test_retry_of_years_is_bounded(self):
        watch = self.begin("watch", chunks(snapshot("a", head=f"retry: {'9' * 5000}\n")), stream(snapshot("b")))
        self.assertEqual([next(watch)[0] for _ in range(2)], ["snapshot", "snapshot"])
        self.assertEqual(self.clock.sleeps, [30])

    def test_streams_that_end_at_once_back_off(self):
        empty = stream("")
        for name, bad in {"empty": empty, "retry of zero": stream("retry: 0\n\n"), "a snapshot": stream("retry: 0\n" + snapshot("a"))}.items():
            with self.subTest(name):
                self.clock = FakeClock()
                watch = self.begin("watch", *[bad] * 12, stream(snapshot("b")))
                next(event for event in watch if event[1]["instances"][0]["name"] == "b")
                self.assertEqual(len(self.clock.sleeps), 12)
                self.assertLess(3, self.clock.sleeps[-1])

    def test_long_stream_ends_the_back_off(self):
        watch = self.begin("watch", *[MALFORMED["502"]] * 8, chunks(snapshot("a"), is_complete=False), stream(snapshot("b")))
        next(watch)
        self.clock.now += 60
        next(watch)
        self.assertEqual(self.clock.sleeps[-2:], [5.0, 0.1])

    def test_retry_after_is_respected_up_to_a_minute(self):
        for value, expected in (("7", 7), ("3600", 60), ("Fri, 31 Dec 2100 23:59:59 GMT", 60), ("soon", 0.1)):
            with self.subTest(value):
                self.clock = FakeClock()
                watch = self.begin("watch", problem("503 Service Unavailable", "full", Retry_After=value), stream(snapshot("a")))
                next(watch)
                self.assertEqual(self.clock.sleeps, [expected])

    def test_refusal_of_the_first_request_is_raised(self):
        with self.assertRaises(Problem):
            next(self.begin("watch", otherwise=BAD_QUERY, filters={"tga": "x"}))
        self.assertEqual(self.clock.sleeps, [])

    def test_refusal_of_a_later_request_is_retried_without_the_id(self):
        watch = self.begin("watch", stream(snapshot("a", id="1")), BAD_QUERY, stream(snapshot("b")))
        self.assertEqual([next(watch)[0] for _ in range(2)], ["snapshot", "snapshot"])
        self.assertEqual(self.ids(), [None, "1", None])

    def test_token_is_renewed_at_a_401(self):
        tokens = iter(["old", "new", "new"])
        watch = self.begin("watch", MALFORMED["401"], stream(snapshot("a")), token=lambda: next(tokens))
        next(watch)
        self.assertEqual((self.sent_headers("authorization"), self.clock.sleeps), (["Bearer old", "Bearer new"], []))

    def test_failing_token_function_is_retried(self):
        tokens = iter([OSError("not yet"), "new"])

        def token():
            token = next(tokens)
            if isinstance(token, Exception):
                raise token
            return token

        next(self.begin("watch", stream(snapshot("a")), token=token))
        self.assertEqual(self.clock.sleeps, [0.1])

    def test_restored_store_resets_the_index_of_a_stream(self):
        restored = stream(snapshot("a", id="2"), Rollcall_Index="40", Rollcall_Index_Reset="true")
        watch = self.begin("watch", stream(snapshot("a", id="1"), Rollcall_Index="900"), restored, stream(snapshot("b")))
        for _ in range(3):
            next(watch)
        self.assertEqual(self.sent_headers("rollcall-min-index"), [None, "900", "40"])

    def test_failures_are_logged(self):
        next(self.begin("watch", MALFORMED["502"], MALFORMED["302"], stream(snapshot("a"))))
        self.assertEqual([record.levelname for record in self.logged], ["WARNING", "WARNING"])
        self.assertIn("watch of shop/orders", self.logged[0].getMessage())

    def test_exception_of_the_caller_ends_the_stream(self):
        watch = self.begin("watch", stream(snapshot("a")))
        next(watch)
        with self.assertRaises(KeyError):
            watch.throw(KeyError("from the caller"))
        self.assertEqual(list(watch), [])

    def test_follow_shows_the_set_after_each_event(self):
        text = snapshot("a", "b", id="1") + change("upsert", "c") + change("remove", "a") + change("remove", "unknown", id="2")
        follow = self.begin("follow", stream(text))
        sets = [sorted(instances) for instances in itertools.islice(follow, 4)]
        self.assertEqual(sets, [["a", "b"], ["a", "b", "c"], ["b", "c"], ["b", "c"]])


class Poll(StreamTest):
    def found(self, *names, tag=True, **headers):
        body = {"instances": [{"name": name} for name in names]}
        return answer("200 OK", body, **({"ETag": f'"{"-".join(names)}"'} if tag else {}), **headers)

    UNCHANGED = answer("304 Not Modified", Content_Length=None, ETag='"a"')

    def names(self, poll, count):
        return [[instance["name"] for instance in found["instances"]] for found in itertools.islice(poll, count)]

    def test_any_failure_is_retried(self):
        for name, bad_answer in MALFORMED.items():
            with self.subTest(name):
                self.clock = FakeClock()
                poll = self.begin("poll", bad_answer, self.found("a"), bad_answer, bad_answer, self.found("b"))
                self.assertEqual(self.names(poll, 2), [["a"], ["b"]])
                self.assertEqual(len(self.clock.sleeps), 3)
                self.assertLess(0, min(self.clock.sleeps))
                again = None if name == "400 with HTML" else '"a"'
                self.assertEqual(self.sent_headers("if-none-match"), [None, None, '"a"', again, again])

    def test_timeout_is_retried(self):
        for name, bad_answer in SLOW.items():
            with self.subTest(name):
                poll = self.begin("poll", bad_answer, otherwise=self.found("a"), timeout=0.5)
                self.assertEqual(self.names(poll, 1), [["a"]])

    def test_unchanged_answers_are_not_yielded(self):
        poll = self.begin("poll", self.found("a"), self.UNCHANGED, self.found("a"), self.found("b"))
        self.assertEqual(self.names(poll, 2), [["a"], ["b"]])
        self.assertEqual([request.path.partition("?")[2] for request in self.replica.requests], ["", *["wait=30s"] * 3])

    def test_immediate_unchanged_answers_back_off(self):
        for name, bad in {"304": self.UNCHANGED, "the same set": self.found("a"), "no ETag": self.found("a", tag=False)}.items():
            with self.subTest(name):
                self.clock = FakeClock()
                poll = self.begin("poll", self.found("a"), *[bad] * 12, self.found("b"))
                self.assertEqual(self.names(poll, 2), [["a"], ["b"]])
                self.assertEqual(len(self.clock.sleeps), 11, "the first one may come from a replica that shuts down")
                self.assertEqual(self.clock.sleeps[-1], 5.0)

    def test_elapsed_short_waits_are_not_failures(self):
        clock = self.clock

        def unchanged(connection):
            clock.now += 0.5
            connection.sendall(self.UNCHANGED)

        poll = self.begin("poll", self.found("a"), *[unchanged] * 5, self.found("b"), filters={"wait": "500ms"})
        self.assertEqual(self.names(poll, 2), [["a"], ["b"]])
        self.assertEqual(self.clock.sleeps, [])

    def test_retry_after_is_respected_up_to_a_minute(self):
        for value, expected in (("7", 7), ("3600", 60), ("Fri, 31 Dec 2100 23:59:59 GMT", 60), ("soon", 0.1)):
            with self.subTest(value):
                self.clock = FakeClock()
                self.names(self.begin("poll", answer("429 Too Many Requests", "", Retry_After=value), self.found("a")), 1)
                self.assertEqual(self.clock.sleeps, [expected])

    def test_refusal_of_the_first_request_is_raised(self):
        with self.assertRaises(Problem):
            next(self.begin("poll", otherwise=BAD_QUERY))

    def test_restored_store_resets_the_index_of_a_poll(self):
        restored = self.found("b", Rollcall_Index="40", Rollcall_Index_Reset="true")
        poll = self.begin("poll", self.found("a", Rollcall_Index="900"), restored, self.found("c"))
        self.assertEqual(self.names(poll, 3), [["a"], ["b"], ["c"]])
        self.assertEqual(self.sent_headers("rollcall-min-index"), [None, "900", "40"])


if __name__ == "__main__":
    unittest.main()
