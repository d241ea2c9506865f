"""Tests of leases. A lease is renewed whatever the replicas answer: a failure costs one heartbeat and is reported."""

import json
import logging
import unittest

from malformed import MALFORMED, SLOW
from rollcall_client import BadAnswer, Problem, Rollcall, TokenError, Unavailable
from scripted_server import BOUND, FakeClock, ScriptedServer, answer, problem

LEASE = {"mode": "Heartbeat", "durationSeconds": 30, "expiresAt": "…", "expiresInMs": 30_000, "renewAfterSeconds": 10}
REGISTERED = answer("201 Created", {"name": "a", "uid": "u1", "lease": LEASE, "aMemberOfTheFuture": {}})
RENEWED = answer("200 OK", {"expiresAt": "…", "expiresInMs": 30_000, "renewAfterSeconds": 10, "aMemberOfTheFuture": []})
UNKNOWN = problem("404 Not Found", "unknown-instance")
TERMINATING = problem("409 Conflict", "terminating", Retry_After="4")


class LeaseTest(unittest.TestCase):
    def setUp(self):
        logger = logging.getLogger("rollcall")
        logger.propagate = False
        self.logged = []
        handler = logging.Handler()
        handler.emit = self.logged.append
        logger.addHandler(handler)
        self.addCleanup(logger.removeHandler, handler)
        self.reported, self.clock = [], FakeClock()

    def keep(self, *script, **options):
        """Creates a lease whose registration has succeeded and whose thread waits for the first heartbeat."""
        fields = options.pop("fields", {})
        on_beat = options.pop("on_beat", self.reported.append)
        self.replica = ScriptedServer(REGISTERED, *script, otherwise=RENEWED)
        self.addCleanup(self.replica.close)
        rollcall = Rollcall([self.replica.address], clock=self.clock, **{"timeout": BOUND, **options})
        self.lease = rollcall.keep("shop", "a", "orders", on_beat=on_beat, addresses=["10.0.0.7"], **fields)
        self.addCleanup(self.lease.stop, drain=0)
        return self.clock.next_wait()

    def kinds(self):
        return [type(result).__name__ for result in self.reported]

    def paths(self):
        return [(request.method, request.path.rsplit("/", 1)[-1]) for request in self.replica.requests]

    def test_any_answer_costs_one_heartbeat(self):
        self.keep()
        for name, bad_answer in MALFORMED.items():
            with self.subTest(name):
                self.reported.clear()
                self.logged.clear()
                self.replica.script.append(bad_answer)
                wait = self.clock.step()
                self.assertLess(0, wait)
                self.assertLess(wait, 10, "the next try comes before the interval")
                self.assertEqual(len(self.reported), 1)
                self.assertIsInstance(self.reported[0], (Unavailable, BadAnswer, Problem))
                self.assertEqual([record.levelname for record in self.logged], ["WARNING"])
                self.assertEqual(self.clock.step(), 10)
                self.assertEqual(self.reported[1]["expiresInMs"], 30_000)

    def test_no_answer_in_time_costs_one_heartbeat(self):
        self.keep(timeout=0.5)
        for name, bad_answer in SLOW.items():
            with self.subTest(name):
                self.reported.clear()
                self.replica.script.append(bad_answer)
                self.clock.step()
                self.assertEqual(self.kinds(), ["Unavailable"])
                self.clock.step()
                self.assertEqual(self.kinds(), ["Unavailable", "dict"])

    def test_impossible_intervals_are_refused(self):
        self.keep()
        for seconds in ("0", "-1", "NaN", "Infinity", "1e999", '"10"', "true", "[]", "{}"):
            with self.subTest(seconds):
                self.reported.clear()
                self.replica.script.append(answer("200 OK", '{"renewAfterSeconds": %s}' % seconds))
                self.clock.step()
                self.assertEqual(self.kinds(), ["BadAnswer"])
                self.assertEqual(self.clock.step(), 10)

    def test_extreme_intervals_are_bounded(self):
        self.keep(*(answer("200 OK", {"renewAfterSeconds": seconds}) for seconds in (1e-9, 10**30)))
        self.assertEqual(self.clock.step(), 0.1)
        self.assertEqual(self.clock.step(), 28_800)

    def test_many_failures_in_a_row_back_off_to_the_interval(self):
        bad = MALFORMED["502"]
        self.keep(*[bad] * 12)
        waits = [self.clock.step() for _ in range(12)]
        self.assertEqual(waits[:3], [0.1, 0.2, 0.4])
        self.assertEqual(waits, sorted(waits))
        self.assertLessEqual(waits[-1], 10)
        self.assertEqual(self.clock.step(), 10, "a success ends the back-off")

    def test_retry_after_is_respected_up_to_the_interval(self):
        date = "Wed, 15 Nov 2023 00:00:05 GMT"
        cases = {
            "seconds": ({"Retry_After": "3"}, 3),
            "zero": ({"Retry_After": "0"}, 0.1),
            "a date, by the clock of the server": ({"Retry_After": date, "Date": "Wed, 15 Nov 2023 00:00:00 GMT"}, 5),
            "an hour": ({"Retry_After": "3600"}, 10),
            "400 digits": ({"Retry_After": "9" * 400}, 10),
            "a year ahead": ({"Retry_After": "Fri, 31 Dec 2100 23:59:59 GMT"}, 10),
            "a year ago": ({"Retry_After": "Fri, 31 Dec 1999 23:59:59 GMT"}, 0.1),
            "negative": ({"Retry_After": "-5"}, 0.1),
            "a fraction": ({"Retry_After": "2.5"}, 0.1),
            "not a date": ({"Retry_After": "Fri, 99 Foo 99999 99:99:99 GMT"}, 0.1),
        }
        self.keep()
        for name, (headers, expected) in cases.items():
            for status in ("503 Service Unavailable", "429 Too Many Requests"):
                with self.subTest(name, status=status):
                    self.replica.script.append(answer(status, "", **headers))
                    self.assertEqual(self.clock.step(), expected)
                    self.assertEqual(self.clock.step(), 10)

    def test_callback_that_raises_is_logged_and_the_lease_continues(self):
        failures = [ValueError("from the callback"), SystemExit(1), AssertionError()]

        def on_beat(result):
            self.reported.append(result)
            if failures:
                raise failures.pop(0)

        self.keep(RENEWED, MALFORMED["502"], on_beat=on_beat)
        for _ in range(5):
            self.clock.step()
        self.assertEqual(self.kinds(), ["dict", "Problem", "dict", "dict", "dict"])
        traces = [record for record in self.logged if record.levelname == "ERROR"]
        self.assertEqual(len(traces), 3)
        self.assertTrue(all(record.exc_info for record in traces))

    def test_callback_can_stop_the_lease(self):
        stopped = []

        def on_beat(result):
            self.reported.append(result)
            stopped.append(self.lease.stop(drain=0))

        self.keep(RENEWED, problem("403 Forbidden", "forbidden"), on_beat=on_beat)
        self.clock._steps.release()
        self.lease._thread.join(BOUND)
        self.assertFalse(self.lease._thread.is_alive())
        self.assertEqual(self.paths()[2:], [("DELETE", "a?uid=u1")])
        # The failed deregistration was reported to the callback too, which called `stop` again within the first call.
        self.assertEqual((self.kinds(), stopped), (["dict", "Problem"], [False, False]))
        self.replica.script.append(answer("204 No Content", Content_Length=None))
        self.assertTrue(self.lease.stop())

    def test_unknown_and_evicted_instances_are_registered_again(self):
        for status, kind in (("404 Not Found", "unknown-instance"), ("410 Gone", "evicted")):
            with self.subTest(status):
                self.clock, self.reported = FakeClock(), []
                again = answer("201 Created", {"uid": "u2", "lease": {**LEASE, "renewAfterSeconds": 7}})
                self.keep(problem(status, kind), again)
                self.assertEqual(self.clock.step(), 7)
                self.assertEqual(self.kinds(), ["dict"])
                self.assertEqual(self.paths(), [("PUT", "a"), ("PUT", "heartbeat"), ("PUT", "a")])
                self.assertEqual(self.replica.requests[0].body, self.replica.requests[2].body)
                self.assertEqual(self.lease.instance["uid"], "u2")
                self.lease.stop(drain=0)
                self.assertEqual(self.paths()[-1], ("DELETE", "a?uid=u2"))

    def test_any_answer_to_the_second_registration_costs_one_heartbeat(self):
        self.keep()
        for name, bad_answer in {**MALFORMED, "404 of an ingress": answer("404 Not Found", "nothing here")}.items():
            with self.subTest(name):
                self.reported.clear()
                self.replica.script.extend([UNKNOWN, bad_answer])
                self.assertLess(self.clock.step(), 10)
                self.assertEqual(len(self.reported), 1)
                self.assertIsInstance(self.reported[0], Exception)
                self.replica.script.extend([UNKNOWN, REGISTERED])
                self.assertEqual(self.clock.step(), 10)
                self.assertEqual(self.reported[1]["renewAfterSeconds"], 10)

    def test_terminating_object_is_awaited_and_registered_again(self):
        self.keep(TERMINATING, TERMINATING, UNKNOWN, TERMINATING, UNKNOWN, REGISTERED)
        self.assertEqual([self.clock.step() for _ in range(4)], [4, 4, 4, 10])
        self.assertEqual(self.kinds(), ["Problem", "Problem", "Problem", "dict"])

    def test_terminating_object_delays_the_first_registration(self):
        replica = ScriptedServer(TERMINATING, TERMINATING, REGISTERED)
        self.addCleanup(replica.close)
        rollcall = Rollcall([replica.address], clock=self.clock)
        self.assertEqual(rollcall.register("shop", "a", "orders")["uid"], "u1")
        self.assertEqual(self.clock.sleeps, [4, 4])

    def test_registration_gives_up_on_a_terminating_object_after_its_patience(self):
        replica = ScriptedServer(otherwise=TERMINATING)
        self.addCleanup(replica.close)
        with self.assertRaises(Problem) as raised:
            Rollcall([replica.address], clock=self.clock, patience=10).register("shop", "a", "orders")
        self.assertEqual(raised.exception.type, "terminating")
        self.assertEqual(self.clock.sleeps, [4, 4])

    def test_permanent_instance_gets_a_heartbeat_every_minute(self):
        permanent = answer("200 OK", {"renewAfterSeconds": None})
        self.keep(permanent)
        self.assertEqual(self.clock.step(), 60)
        self.assertEqual(self.clock.step(), 10)

    def test_heartbeat_goes_to_the_next_replica_within_the_same_round(self):
        failing = ScriptedServer(REGISTERED, otherwise=b"")
        working = ScriptedServer(otherwise=RENEWED)
        self.addCleanup(failing.close)
        self.addCleanup(working.close)
        lease = Rollcall([failing.address, working.address], clock=self.clock).keep("shop", "a", "orders", on_beat=self.reported.append)
        self.addCleanup(lease.stop, drain=0)
        self.clock.next_wait()
        self.assertEqual(self.clock.step(), 10)
        self.assertEqual(self.kinds(), ["dict"])
        self.clock.step()
        self.assertEqual((len(failing.requests), len(working.requests)), (2, 2))

    def test_round_over_replicas_that_do_not_answer_ends_well_before_the_lease(self):
        for count in range(1, 6):
            with self.subTest(replicas=count):
                self.clock, bounds = FakeClock(), []
                self.keep(timeout=60)
                self.lease._replicas.addresses.extend(["127.0.0.1:1"] * (count - 1))
                self.lease._rollcall.heartbeat = lambda *_, **arguments: bounds.append(arguments)
                self.clock.step()
                del self.lease._rollcall.heartbeat
                # 20 s of the lease are left.
                self.assertLessEqual(count * bounds[0]["timeout"], 15)
                self.assertEqual(bounds[0]["patience"], 0)

    def test_heartbeat_answered_202_sends_the_next_one_to_another_replica(self):
        renewal = json.loads(RENEWED.split(b"\r\n\r\n")[1])
        cut_off, working = ScriptedServer(REGISTERED, answer("202 Accepted", renewal)), ScriptedServer(otherwise=RENEWED)
        self.addCleanup(cut_off.close)
        self.addCleanup(working.close)
        lease = Rollcall([cut_off.address, working.address], clock=self.clock).keep("shop", "a", "orders")
        self.addCleanup(lease.stop, drain=0)
        self.clock.next_wait()
        self.assertEqual([self.clock.step(), self.clock.step()], [10, 10])
        self.assertEqual((len(cut_off.requests), len(working.requests)), (2, 1))

    def test_error_inside_the_client_is_reported_with_its_traceback(self):
        self.keep()
        self.lease._rollcall.heartbeat = lambda *_, **__: 1 / 0
        self.clock.step()
        del self.lease._rollcall.heartbeat
        self.assertEqual(self.clock.step(), 10)
        self.assertEqual(self.kinds(), ["ZeroDivisionError", "dict"])
        self.assertTrue(self.logged[0].exc_info)

    def test_token_function_that_raises_costs_one_heartbeat(self):
        answers = ["t", OSError("gone"), 5, "two\nlines", "t"]

        def token():
            result = answers.pop(0) if answers else "t"
            if isinstance(result, Exception):
                raise result
            return result

        self.keep(token=token)
        for _ in range(4):
            self.clock.step()
        self.assertEqual(self.kinds(), ["TokenError", "TokenError", "TokenError", "dict"])
        self.assertIsInstance(self.reported[0], TokenError)
        self.assertNotIn("two", str(self.reported[2]), "the message must not contain the token")

    def test_stop_drains_and_deregisters(self):
        self.keep(RENEWED, answer("204 No Content", Content_Length=None))
        self.assertTrue(self.lease.stop(drain=6))
        self.assertEqual(self.clock.sleeps, [6])
        self.assertEqual(self.paths(), [("PUT", "a"), ("PUT", "heartbeat"), ("DELETE", "a?uid=u1")])
        self.assertEqual(json.loads(self.replica.requests[1].body), {"health": "Stopping"})
        self.assertFalse(self.lease._thread.is_alive())

    def test_stop_ends_the_thread_whatever_is_answered(self):
        bad = ("reset", "200 with HTML", "302", "401", "403", "503 with a date", "504", "incomplete body")
        for name in bad:
            with self.subTest(name):
                self.clock, self.reported = FakeClock(), []
                self.keep()
                self.replica.otherwise = MALFORMED[name]
                self.assertFalse(self.lease.stop(drain=6))
                self.assertFalse(self.lease._thread.is_alive())
                self.assertEqual(len(self.reported), 2)

    def test_stop_succeeds_if_the_instance_is_gone_or_replaced(self):
        for status in ("404 Not Found", "410 Gone", "412 Precondition Failed"):
            with self.subTest(status):
                self.clock = FakeClock()
                self.keep(problem(status, "…"))
                self.assertTrue(self.lease.stop(drain=0))


if __name__ == "__main__":
    unittest.main()
