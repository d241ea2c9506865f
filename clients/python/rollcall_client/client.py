"""The calls of the API, and the streams that continue after failures."""

import re
import urllib.parse

from . import answers
from .bearer import BearerToken
from .errors import BadAnswer, Problem, RollcallError, Unavailable, is_permanent_refusal, is_status
from .event_stream import EventParser
from .exchange import MAX_BYTES, TRANSPORT_ERRORS
from .lease import Lease
from .replicas import LONGEST_WAIT, Clock, Replicas

SHORTEST_STREAM = 10.0  # seconds: a stream that ends sooner counts as a failure
SHORTEST_POLL = 1.0  # seconds: a long poll that is answered sooner without a change counts as a failure


class Rollcall:
    """A client of one installation of rollcall. It can be shared by several threads."""

    def __init__(
        self, addresses, token=None, token_file=None, timeout=10.0, patience=30.0, tls=None, stream_timeout=45.0, clock=Clock
    ):
        """`addresses`: `host:port` of each replica, or of a Service in front of them. `token`: a bearer token, or a function
        that returns the current token. `token_file`: instead of `token`, the path of a file, which is read again after a 401.
        `timeout`: seconds for one call to one replica. `patience`: seconds for all tries of a call. `tls`: an
        `ssl.SSLContext` (`ssl.create_default_context(cafile=…)`) if the replicas serve HTTPS. `stream_timeout`: seconds
        after which a stream without data counts as broken; rollcall writes every 15 s."""
        if isinstance(addresses, str):
            raise TypeError("addresses must be a list, such as ['rollcall:8080'], not a string")
        if not addresses:
            raise ValueError("give at least one address")
        if urls := [address for address in addresses if "/" in address]:
            raise ValueError(f"an address must be host:port, without a scheme or a path: {urls}")
        self._replicas = Replicas(addresses, BearerToken(token, token_file), timeout, patience, tls, clock)
        self._clock, self._stream_timeout = clock, stream_timeout

    # Instances and their leases

    def register(self, namespace, name, service, timeout=None, patience=None, **fields):
        """Registers an instance, for the first time or again, and returns the stored instance. `fields` are the other fields
        of the body. While the previous object with this name is being deleted (409 `terminating`), the call waits for at most
        `patience` seconds."""
        path, body = _path(namespace, "instances", name), {"service": service, **fields}
        patience = self._replicas.patience if patience is None else patience
        until, tries = self._clock.monotonic() + patience, 0
        while True:
            left = max(0.0, until - self._clock.monotonic())
            try:
                return self._replicas.call("PUT", path, answers.parse_instance, body, timeout=timeout, patience=left)
            except Problem as problem:
                tries += 1
                wait = self._replicas.delay(tries, problem)
                if problem.type != "terminating" or wait >= left:
                    raise
            self._clock.sleep(wait)

    def heartbeat(self, namespace, name, uid=None, health=None, note=None, timeout=None, patience=None):
        """Renews the lease and returns `{expiresAt, expiresInMs, renewAfterSeconds}`. A 202 means that the replica recorded
        the heartbeat without confirming it, so the next call goes to another replica."""
        path = _path(namespace, "instances", name, "heartbeat") + _query({"uid": uid})
        body = {key: value for key, value in [("health", health), ("note", note)] if value is not None}
        return self._replicas.call("PUT", path, answers.parse_renewal, body or None, timeout=timeout, patience=patience)

    def deregister(self, namespace, name, uid=None):
        """Removes the instance. Succeeds if it does not exist."""
        try:
            path = _path(namespace, "instances", name) + _query({"uid": uid})
            self._replicas.call("DELETE", path, answers.check_deregistered)
        except Problem as problem:
            if problem.status not in (404, 410):
                raise

    def keep(self, namespace, name, service, on_beat=None, **fields):
        """Registers an instance, and sends heartbeats from a new thread until `stop()`, which drains and deregisters. The
        thread calls `on_beat` with each renewal and with the exception of each failed heartbeat; `on_beat` must return
        quickly."""
        return Lease(self, self._replicas, (namespace, name, service), fields, on_beat)

    # Services

    def discover(self, namespace, service, etag=None, wait=None, patience=None, **filters):
        """Returns the set `{revision, instances, …}` and its ETag, or None instead of the set if `etag` is still current.
        With `wait` (`"30s"`) the server delays the answer until the set changes or this time has passed."""
        path = _path(namespace, "services", service) + _query({**filters, "wait": wait})
        headers = {"If-None-Match": etag} if etag else {}
        timeout = self._replicas.timeout + _seconds(wait)

        def parse(response, body):
            if response.status == 304:
                if not etag:
                    raise ValueError("the request had no condition")
                return None, response.headers.get("ETag", etag)
            return answers.parse_set(body), response.headers.get("ETag")

        return self._replicas.call("GET", path, parse, headers=headers, timeout=timeout, patience=patience)

    def poll(self, namespace, service, wait="30s", **filters):
        """Yields the set, and then every changed set, by long polls. It never ends, and raises only if rollcall refuses the
        parameters of the first request (400)."""
        etag, last, failures, has_begun = None, None, 0, False
        soon = min(SHORTEST_POLL, _seconds(wait) / 2) or SHORTEST_POLL
        while True:
            asked = self._clock.monotonic()
            try:
                found, etag = self.discover(namespace, service, etag, wait=wait if etag else None, patience=0, **filters)
            except RollcallError as failure:
                if is_permanent_refusal(failure, has_begun):
                    raise
                failures += 1
                # The ETag may be the cause of the refusal.
                etag = None if is_status(failure, 400) else etag
                self._replicas.pause(f"poll of {namespace}/{service}", failures, failure)
                continue
            has_begun = True
            if found is not None and found != last:
                failures, last = 0, found
                yield found
            elif self._clock.monotonic() - asked < soon:
                # A replica that shuts down answers at once, so the next one is asked at once. From the second time on, the
                # client pauses to avoid a busy loop.
                failures += 1
                if failures > 1:
                    self._clock.sleep(self._replicas.delay(failures))
            else:
                failures = 0

    def watch(self, namespace, service, **filters):
        """Yields `(event, data)` of one service: `snapshot`, `upsert` and `remove`. After a failure it connects again, to any
        replica that answers, and continues from the last event. It never ends, and raises only if rollcall refuses the
        parameters of the first request (400)."""
        path = _path(namespace, "services", service, "watch") + _query(filters)
        position, failures, has_begun = _Position(), 0, False
        while True:
            begun, failure = self._clock.monotonic(), None
            events = self._read_events(path, position)
            try:
                while True:
                    # Only exceptions of `next` are caught, so exceptions of the caller pass through.
                    try:
                        event = next(events)
                    except StopIteration:
                        break
                    except RollcallError as error:
                        failure = error
                        break
                    has_begun = True
                    yield event
            finally:
                events.close()
            if is_permanent_refusal(failure, has_begun):
                raise failure
            failures = failures + 1 if self._clock.monotonic() - begun < SHORTEST_STREAM else 1
            if failure is not None:
                # The id may be the cause of the refusal.
                position.last_id = "" if is_status(failure, 400) else position.last_id
                self._replicas.pause(f"watch of {namespace}/{service}", failures, failure)
            else:
                # The stream ended properly. The server sends each client a different random `retry`.
                backoff = self._replicas.delay(failures) if failures > 1 else 0.0
                self._clock.sleep(max(backoff, position.retry * (0.5 + self._clock.random() / 2)))

    def follow(self, namespace, service, **filters):
        """Yields the set as a dict of instances by name, after each event of `watch`."""
        instances = {}
        for event, data in self.watch(namespace, service, **filters):
            if event == "snapshot":
                instances = {instance["name"]: instance for instance in data["instances"]}
            elif event == "upsert":
                instances[data["name"]] = data
            else:
                instances.pop(data["name"], None)
            yield dict(instances)

    def _read_events(self, path, position):
        """Yields the events of one connection, until the stream ends properly."""
        headers = {"Accept": "text/event-stream"}
        if position.last_id:
            headers["Last-Event-ID"] = position.last_id
        exchange = self._replicas.open_stream(path, headers)
        parser = EventParser()
        try:
            if exchange.response.status != 200 or exchange.response.headers.get_content_type() != "text/event-stream":
                self._replicas.leave(exchange.address)
                raise BadAnswer(f"{exchange.address}: status {exchange.response.status} without text/event-stream")
            while True:
                piece = exchange.read_available(self._stream_timeout)
                for block in parser.feed(piece):
                    event = answers.parse_event(block)
                    if event or block.id is not None:
                        position.last_id = block.id or ""
                    if event:
                        yield event
                if parser.retry is not None:
                    position.retry = min(parser.retry / 1000, LONGEST_WAIT)
                if parser.pending_bytes > MAX_BYTES:
                    raise ValueError(f"an event has more than {MAX_BYTES} bytes")
                if not piece:
                    return
        except TRANSPORT_ERRORS as error:
            self._replicas.leave(exchange.address)
            raise Unavailable(f"{exchange.address}: the stream broke: {error!r}") from error
        except ValueError as error:
            # Events may be lost. Without an id the next stream begins with a snapshot.
            position.last_id = ""
            self._replicas.leave(exchange.address)
            raise BadAnswer(f"{exchange.address}: the stream is malformed: {error}") from error
        finally:
            exchange.close()


class _Position:
    """The position from which a stream continues. A change can consist of several events, of which only the last has an id.
    Between them `last_id` is empty, because the state matches no id: if the change were undone before the client connects
    again, the server would send nothing for the older id."""

    def __init__(self):
        self.last_id, self.retry = "", 1.0


def _path(namespace, *parts):
    return "/v1/namespaces/" + "/".join(urllib.parse.quote(part, safe="") for part in (namespace, *parts))


def _query(parameters):
    present = {key: value for key, value in parameters.items() if value is not None}
    return "?" + urllib.parse.urlencode(present, doseq=True) if present else ""


def _seconds(wait):
    if wait is None:
        return 0.0
    match = re.fullmatch("([0-9]+)(ms|s|m)", wait)
    if match is None:
        raise ValueError(f"wait must be a number with ms, s or m, such as 30s, not {wait!r}")
    return int(match[1]) * {"ms": 0.001, "s": 1, "m": 60}[match[2]]
