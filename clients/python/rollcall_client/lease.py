"""A lease that a thread renews."""

import threading

from .answers import interval_of
from .errors import LOG, Problem, RollcallError, is_status


class Lease:
    """The lease of a registered instance, made by `Rollcall.keep`. Only `stop` ends its thread."""

    def __init__(self, rollcall, replicas, identity, fields, on_beat):
        self._rollcall, self._replicas, self._clock = rollcall, replicas, replicas.clock
        self._identity, self._fields, self._on_beat = identity, fields, on_beat
        self._ended, self._stopping = threading.Event(), threading.Lock()
        self.instance = rollcall.register(*identity, **fields)
        self._interval = interval_of(self.instance["lease"])
        self._thread = threading.Thread(target=self._run, name="rollcall lease", daemon=True)
        self._thread.start()

    def stop(self, drain=6.0):
        """Reports `Stopping`, continues to send heartbeats for `drain` seconds, and deregisters. Clients keep DNS answers for
        up to 5 s, so the drain lets them move away and open requests finish. Returns whether the instance is deregistered.
        If not, its lease expires, unless another call of `stop` succeeds."""
        # The callback can call this too, even while a failure below is reported.
        if not self._stopping.acquire(blocking=False):
            return False
        try:
            return self._stop(drain)
        finally:
            self._stopping.release()

    def _stop(self, drain):
        if drain > 0 and not self._ended.is_set():
            self._fields = {**self._fields, "health": "Stopping"}
            try:
                self._rollcall.heartbeat(*self._identity[:2], health="Stopping")
                self._clock.sleep(drain)
            except RollcallError as failure:
                # The instance stays discoverable, so draining would have no effect.
                self._report(failure)
        self._ended.set()
        if threading.current_thread() is not self._thread:
            # The join is bounded, because resolving a host name is not.
            self._thread.join(self._replicas.patience)
        try:
            self._rollcall.deregister(*self._identity[:2], uid=self.instance["uid"])
        except RollcallError as failure:
            # 412: the name belongs to another incarnation, which this lease does not own.
            if not is_status(failure, 412):
                self._report(failure)
                return False
        return True

    def _run(self):
        wait, failures = self._interval, 0
        while not self._clock.wait(self._ended, wait):
            try:
                renewal = self._renew()
                wait = self._interval = interval_of(renewal)
                failures = 0
                result = renewal
            except Exception as failure:  # Whatever the failure is, only one heartbeat is lost.
                failures += 1
                wait = min(self._interval, self._replicas.delay(failures, failure))
                result = failure
            self._report(result)

    def _renew(self):
        # Two thirds of the lease are left. A round over all replicas takes half of the lease, even if most do not answer.
        share = self._interval * min(1.0, 1.5 / len(self._replicas.addresses))
        bounds = {"timeout": min(self._replicas.timeout, max(1.0, share)), "patience": 0}
        try:
            return self._rollcall.heartbeat(*self._identity[:2], **bounds)
        except Problem as problem:
            if problem.status not in (404, 410):
                raise
        self.instance = self._rollcall.register(*self._identity, **bounds, **self._fields)
        LOG.info("registered %s/%s again", *self._identity[:2])
        return self.instance["lease"]

    def _report(self, result):
        if isinstance(result, Exception):
            # Only an unexpected exception is logged with its traceback.
            trace = None if isinstance(result, RollcallError) else result
            LOG.warning("the heartbeat of %s/%s failed: %s", *self._identity[:2], result, exc_info=trace)
        if self._on_beat is None:
            return
        try:
            self._on_beat(result)
        except (Exception, SystemExit):  # SystemExit would end the thread silently.
            LOG.exception("the on_beat callback of %s/%s failed", *self._identity[:2])
