"""Tests of single calls: finding a replica that answers, the token, and the index that prevents reads of an older state."""

import json
import os
import tempfile
import threading
import unittest

from malformed import MALFORMED, SLOW
from rollcall_client import BadAnswer, Problem, Rollcall, RollcallError, TokenError, Unavailable
from scripted_server import BOUND, FakeClock, ScriptedServer, answer, problem

SET = {"namespace": "shop", "service": "orders", "revision": "r1", "instances": [{"name": "a", "new": 1}], "new": 2}
UNAUTHENTICATED = MALFORMED["401"]
# Answers that are not retried.
FINAL = {"400 with HTML", "401", "403", "407", "418 with an empty problem"}


def found(index=None, **headers):
    return answer("200 OK", SET, ETag='"r1"', **({"Rollcall_Index": index} if index else {}), **headers)


class CallTest(unittest.TestCase):
    def setUp(self):
        self.clock = FakeClock()

    def replica(self, *script, otherwise=None):
        server = ScriptedServer(*script, otherwise=otherwise)
        self.addCleanup(server.close)
        return server

    def rollcall(self, *replicas, **options):
        return Rollcall([replica.address for replica in replicas], clock=self.clock, **{"timeout": BOUND, **options})


class Replicas(CallTest):
    def test_transient_failure_leads_to_the_next_replica(self):
        for name, bad_answer in MALFORMED.items():
            if name in FINAL or name.startswith("429"):
                continue
            with self.subTest(name):
                bad, good = self.replica(otherwise=bad_answer), self.replica(otherwise=found())
                rollcall = self.rollcall(bad, good)
                self.assertEqual(rollcall.discover("shop", "orders"), (SET, '"r1"'))
                rollcall.discover("shop", "orders")
                self.assertEqual((len(bad.requests), len(good.requests)), (1, 2), "the next call goes to the replica that answered")
                self.assertEqual(self.clock.sleeps, [])

    def test_timeout_leads_to_the_next_replica(self):
        for name, bad_answer in SLOW.items():
            with self.subTest(name):
                rollcall = self.rollcall(self.replica(bad_answer), self.replica(otherwise=found()), timeout=0.5)
                self.assertEqual(rollcall.discover("shop", "orders"), (SET, '"r1"'))

    def test_refusal_is_raised_at_once(self):
        for name in FINAL:
            with self.subTest(name):
                replica = self.replica(otherwise=MALFORMED[name])
                with self.assertRaises(Problem):
                    self.rollcall(replica).discover("shop", "orders")
                self.assertEqual(len(replica.requests), 1)

    def test_last_failure_is_raised_when_the_patience_ends(self):
        for name, kind in (("302", BadAnswer), ("504", Problem), ("closed at once", Unavailable)):
            with self.subTest(name):
                self.clock = FakeClock()
                replica = self.replica(otherwise=MALFORMED[name])
                with self.assertRaises(kind):
                    self.rollcall(replica, patience=30).discover("shop", "orders")
                self.assertLess(20, sum(self.clock.sleeps))
                self.assertLess(sum(self.clock.sleeps), 30)

    def test_unavailable_is_raised_if_no_replica_listens(self):
        replica = ScriptedServer()
        replica.close()
        with self.assertRaises(Unavailable):
            self.rollcall(replica).discover("shop", "orders")

    def test_invalid_address_raises_a_rollcall_error(self):
        for address in ("127.0.0.1:http", "..:1", "a" * 70 + ".example:1", "\0:1"):
            with self.subTest(address), self.assertRaises(RollcallError):
                Rollcall([address], clock=self.clock, patience=0).discover("shop", "orders")

    def test_retry_after_counts_after_all_replicas_were_asked(self):
        busy = problem("503 Service Unavailable", "not-ready", Retry_After="2")
        first, second = self.replica(busy, found()), self.replica(busy)
        self.rollcall(first, second).discover("shop", "orders")
        self.assertEqual(self.clock.sleeps, [2])

    def test_429_is_retried_at_the_same_replica(self):
        first, second = self.replica(MALFORMED["429 with seconds"], found()), self.replica()
        self.rollcall(first, second).discover("shop", "orders")
        self.assertEqual((self.clock.sleeps, len(second.requests)), ([1], 0))

    def test_retry_after_beyond_the_patience_raises_at_once(self):
        replica = self.replica(problem("503 Service Unavailable", "not-ready", Retry_After="50"))
        with self.assertRaises(Problem) as raised:
            self.rollcall(replica).discover("shop", "orders")
        self.assertEqual((raised.exception.retry_after, self.clock.sleeps), (50, []))

    def test_pauses_are_random(self):
        pauses = []
        for chance in (0.0, 0.5, 1.0):
            self.clock = FakeClock(random=chance)
            self.rollcall(self.replica(b"", found())).discover("shop", "orders")
            pauses += self.clock.sleeps
        self.assertEqual(len(set(pauses)), 3)

    def test_redirect_is_not_followed(self):
        target = self.replica(otherwise=found())
        redirect = answer("302 Found", "", Location=f"http://{target.address}/v1/namespaces/shop/services/orders")
        with self.assertRaises(BadAnswer):
            self.rollcall(self.replica(otherwise=redirect), token="secret").discover("shop", "orders")
        self.assertEqual(target.requests, [])

    def test_304_without_a_condition_is_a_bad_answer(self):
        bad = answer("304 Not Modified", Content_Length=None, ETag='"r1"')
        with self.assertRaises(BadAnswer):
            self.rollcall(self.replica(otherwise=bad)).discover("shop", "orders")
        self.assertEqual(self.rollcall(self.replica(bad)).discover("shop", "orders", etag='"r1"'), (None, '"r1"'))

    def test_problem_keeps_all_members(self):
        members = {"type": "tag:rollcall.dev,2026:bad-fields", "detail": "d", "errors": [{"field": "f"}], "new": 1}
        replica = self.replica(answer("422 Unprocessable Entity", members))
        with self.assertRaises(Problem) as raised:
            self.rollcall(replica).register("shop", "a", "orders", weight=-1)
        failure = raised.exception
        self.assertEqual((failure.status, failure.type, failure.detail), (422, "bad-fields", "d"))
        self.assertEqual((failure.errors, failure.members), ([{"field": "f"}], members))

    def test_names_and_filters_are_quoted(self):
        replica = self.replica(found())
        self.rollcall(replica).discover("a/b", "c?d", tag=["x y", "&"], wait="500ms")
        self.assertEqual(replica.requests[0].path, "/v1/namespaces/a%2Fb/services/c%3Fd?tag=x+y&tag=%26&wait=500ms")

    def test_invalid_wait_raises_a_value_error(self):
        for wait in ("", "30", "s", "1h", "-1s"):
            with self.subTest(wait), self.assertRaises(ValueError):
                self.rollcall(self.replica()).discover("shop", "orders", wait=wait or "x")


class Addresses(unittest.TestCase):
    def test_invalid_addresses_are_refused_at_once(self):
        for addresses, error in [
            ("127.0.0.1:8080", TypeError),
            ([], ValueError),
            (["http://127.0.0.1:8080"], ValueError),
            (["127.0.0.1:8080", "rollcall:8080/v1"], ValueError),
        ]:
            with self.subTest(addresses=addresses), self.assertRaises(error):
                Rollcall(addresses)


class Tokens(CallTest):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = os.path.join(folder.name, "token")
        self.write("old\n")

    def write(self, token):
        with open(self.path, "wb") as file:
            file.write(token if isinstance(token, bytes) else token.encode())

    def sent_tokens(self, replica):
        return [request.headers.get("authorization") for request in replica.requests]

    def test_token_file_is_read_again_at_a_401(self):
        replica = self.replica(found(), found(), UNAUTHENTICATED, otherwise=found())
        rollcall = self.rollcall(replica, token_file=self.path)
        rollcall.discover("shop", "orders")
        self.write("new\n")
        rollcall.discover("shop", "orders")
        rollcall.discover("shop", "orders")
        self.assertEqual(self.sent_tokens(replica), ["Bearer old", "Bearer old", "Bearer old", "Bearer new"])

    def test_401_with_the_same_token_is_raised(self):
        replica = self.replica(otherwise=UNAUTHENTICATED)
        with self.assertRaises(Problem):
            self.rollcall(replica, token_file=self.path).discover("shop", "orders")
        self.assertEqual(len(replica.requests), 1)

    def test_401_with_the_new_token_too_is_raised(self):
        replica = self.replica(found(), otherwise=UNAUTHENTICATED)
        rollcall = self.rollcall(replica, token_file=self.path)
        rollcall.discover("shop", "orders")
        self.write("new")
        with self.assertRaises(Problem):
            rollcall.discover("shop", "orders")
        self.assertEqual(len(replica.requests), 3)

    def test_unreadable_token_file_keeps_the_former_token(self):
        replica = self.replica(found(), UNAUTHENTICATED, UNAUTHENTICATED, UNAUTHENTICATED, otherwise=found())
        rollcall = self.rollcall(replica, token_file=self.path)
        rollcall.discover("shop", "orders")
        for content in ("", "\n", b"\xff\xfe"):
            self.write(content)
            with self.subTest(content), self.assertLogs("rollcall", "WARNING"), self.assertRaises(Problem):
                rollcall.discover("shop", "orders")
        os.remove(self.path)
        rollcall.discover("shop", "orders")
        self.assertEqual(self.sent_tokens(replica), ["Bearer old"] * 5)

    def test_missing_token_file_fails_the_call(self):
        os.remove(self.path)
        replica = self.replica(found())
        rollcall = self.rollcall(replica, token_file=self.path)
        with self.assertRaises(TokenError):
            rollcall.discover("shop", "orders")
        self.write("new")
        rollcall.discover("shop", "orders")
        self.assertEqual(self.sent_tokens(replica), ["Bearer new"])

    def test_token_that_is_invalid_in_a_header_is_refused_without_being_shown(self):
        for token in ("two\r\nlines", "ümlaut", "two words"):
            with self.subTest(token), self.assertRaises(TokenError) as raised:
                self.rollcall(self.replica(), token=token).discover("shop", "orders")
            self.assertNotIn(token[:4], str(raised.exception))

    def test_token_function_is_called_for_each_request(self):
        tokens = iter("abcd")
        replica = self.replica(found(), UNAUTHENTICATED, found())
        rollcall = self.rollcall(replica, token=lambda: next(tokens))
        rollcall.discover("shop", "orders")
        rollcall.discover("shop", "orders")
        # The client compared "c" with the refused "b".
        self.assertEqual(self.sent_tokens(replica), ["Bearer a", "Bearer b", "Bearer d"])

    def test_token_and_token_file_together_raise_a_value_error(self):
        with self.assertRaises(ValueError):
            Rollcall(["127.0.0.1:1"], token="a", token_file=self.path)


class Index(CallTest):
    def requested_indexes(self, replica):
        return [request.headers.get("rollcall-min-index") for request in replica.requests]

    def test_reads_ask_for_the_highest_index_of_any_replica(self):
        first, second = self.replica(found("7"), MALFORMED["502"]), self.replica(found("5"), found("9"), found())
        rollcall = self.rollcall(first, second)
        for _ in range(4):
            rollcall.discover("shop", "orders")
        self.assertEqual(self.requested_indexes(first), [None, "7"])
        self.assertEqual(self.requested_indexes(second), ["7", "7", "9"])

    def test_writes_raise_the_index_and_do_not_ask_for_it(self):
        lease = {"uid": "u", "lease": {"renewAfterSeconds": 1}}
        replica = self.replica(answer("201 Created", lease, Rollcall_Index="7"), answer("200 OK", lease), found())
        rollcall = self.rollcall(replica)
        rollcall.register("shop", "a", "orders")
        rollcall.register("shop", "a", "orders")
        rollcall.discover("shop", "orders")
        self.assertEqual(self.requested_indexes(replica), [None, None, "7"])

    def test_restored_store_resets_the_index(self):
        """The restored store is at index 40, and the client has read 900."""
        replica = self.replica(found("900"), found("40", Rollcall_Index_Reset="true"), found("41"), found())
        rollcall = self.rollcall(replica)
        for _ in range(4):
            rollcall.discover("shop", "orders")
        self.assertEqual(self.requested_indexes(replica), [None, "900", "40", "41"])

    def test_index_resets_as_often_as_the_store_is_restored(self):
        reset = {"Rollcall_Index_Reset": "true"}
        replica = self.replica(found("900"), found("40", **reset), found("50"), found("3", **reset), found("4"), found())
        rollcall = self.rollcall(replica)
        for _ in range(6):
            rollcall.discover("shop", "orders")
        self.assertEqual(self.requested_indexes(replica), [None, "900", "40", "50", "3", "4"])

    def test_304_and_problems_reset_the_index_too(self):
        reset = {"Rollcall_Index": "40", "Rollcall_Index_Reset": "true"}
        for name, bad in (
            ("304", answer("304 Not Modified", Content_Length=None, ETag='"r1"', **reset)),
            ("403", problem("403 Forbidden", "forbidden", **reset)),
        ):
            with self.subTest(name):
                replica = self.replica(found("900"), bad, found())
                rollcall = self.rollcall(replica)
                rollcall.discover("shop", "orders")
                try:
                    rollcall.discover("shop", "orders", etag='"r1"')
                except Problem:
                    pass
                rollcall.discover("shop", "orders")
                self.assertEqual(self.requested_indexes(replica), [None, "900", "40"])

    def test_lower_index_without_a_reset_changes_nothing(self):
        replica = self.replica(found("900"), found("40"), found("40", Rollcall_Index_Reset="false"), found())
        rollcall = self.rollcall(replica)
        for _ in range(4):
            rollcall.discover("shop", "orders")
        self.assertEqual(self.requested_indexes(replica), [None, "900", "900", "900"])

    def test_late_reset_does_not_undo_newer_reads(self):
        """Two requests ask for index 900. The answer to the first one comes after the other request has reset the index to 40
        and a third one has read 60."""
        arrived, release = threading.Event(), threading.Event()

        def late(connection):
            arrived.set()
            release.wait(BOUND)
            connection.sendall(found("41", Rollcall_Index_Reset="true"))

        slow, fast = self.replica(found("900"), late), self.replica(found("40", Rollcall_Index_Reset="true"), found("60"), found())
        rollcall = self.rollcall(slow, fast)
        rollcall.discover("shop", "orders")
        thread = threading.Thread(target=rollcall.discover, args=("shop", "orders"))
        thread.start()
        self.assertTrue(arrived.wait(BOUND))
        rollcall._replicas.leave(slow.address)
        rollcall.discover("shop", "orders")
        rollcall.discover("shop", "orders")
        release.set()
        thread.join(BOUND)
        rollcall.discover("shop", "orders")
        self.assertEqual(self.requested_indexes(fast), ["900", "40", "60"])

    def test_invalid_index_is_ignored(self):
        for index in ("", "²", "-1", "0x10", "7, 8", "9" * 19, "9" * 5000, "true"):
            with self.subTest(index):
                replica = self.replica(found("7"), found(index or " ", Rollcall_Index_Reset="true"), found())
                rollcall = self.rollcall(replica)
                for _ in range(3):
                    rollcall.discover("shop", "orders")
                self.assertEqual(self.requested_indexes(replica), [None, "7", "7"])

    def test_false_index_is_corrected_by_the_next_reset(self):
        replica = self.replica(found("9" * 18), found("40", Rollcall_Index_Reset="true"), found())
        rollcall = self.rollcall(replica)
        for _ in range(3):
            rollcall.discover("shop", "orders")
        self.assertEqual(self.requested_indexes(replica), [None, "9" * 18, "40"])


class Bodies(CallTest):
    def test_complete_json_in_an_incomplete_body_is_refused(self):
        with self.assertRaises(Unavailable):
            self.rollcall(self.replica(otherwise=found(Content_Length=500)), patience=0).discover("shop", "orders")

    def test_sets_of_the_wrong_shape_are_refused(self):
        for bad in ({}, {"instances": None}, {"instances": {}}, {"instances": [1]}, {"instances": [{}]}, {"instances": [{"name": 1}]}):
            with self.subTest(bad), self.assertRaises(BadAnswer):
                self.rollcall(self.replica(otherwise=answer("200 OK", bad)), patience=0).discover("shop", "orders")

    def test_registrations_of_the_wrong_shape_are_refused(self):
        lease = {"renewAfterSeconds": 1}
        for bad in ({"lease": lease}, {"uid": 1, "lease": lease}, {"uid": "u"}, {"uid": "u", "lease": {}}, {"uid": "u", "lease": [1]}):
            with self.subTest(bad), self.assertRaises(BadAnswer):
                self.rollcall(self.replica(otherwise=answer("200 OK", bad)), patience=0).register("shop", "a", "orders")

    def test_fields_are_sent_unchanged(self):
        replica = self.replica(answer("201 Created", {"uid": "u", "lease": {"renewAfterSeconds": 1}}))
        self.rollcall(replica).register("shop", "a", "orders", addresses=["10.0.0.7"], lease={"durationSeconds": 6})
        self.assertEqual(
            json.loads(replica.requests[0].body),
            {"service": "orders", "addresses": ["10.0.0.7"], "lease": {"durationSeconds": 6}},
        )


if __name__ == "__main__":
    unittest.main()
