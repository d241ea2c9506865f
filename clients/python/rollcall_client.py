"""A client of rollcall in one file, for Python 3.9 and later, with nothing but the standard library.

Written from openapi.json. It speaks to any of several replicas: to the one that answered last, and when that does not
answer, to the next. Reads never go back, whichever replica answers (Rollcall-Min-Index).
"""

import http.client
import json
import random
import threading
import time
import urllib.parse


class Problem(Exception):
    """An answer that is no success: `type` is for programs, `detail` for people (RFC 9457)."""

    def __init__(self, status, members):
        self.status = status
        self.type = members.get("type", "about:blank").rsplit(":", 1)[-1]
        self.detail = members.get("detail", "")
        self.errors = members.get("errors", [])
        self.members = members
        super().__init__(f"{status} {self.type}: {self.detail}")


class Away(Exception):
    """No replica has answered in time."""


class Answer:
    def __init__(self, address, status, headers, body):
        self.address, self.status, self.headers, self.body = address, status, headers, body


class Rollcall:
    """Safe to be used by several threads."""

    def __init__(self, addresses, token=None, timeout=10.0, patience=30.0, tls=None):
        """`addresses`: `host:port` of each replica, or of a Service before them. `token`: a bearer token, or a function
        that gives the current one. `timeout`: of one call on one replica. `patience`: how long to try in all.
        `tls`: an `ssl.SSLContext` (`ssl.create_default_context(cafile=…)`) where the replicas speak HTTPS."""
        if not addresses:
            raise ValueError("give at least one address")
        self._addresses = list(addresses)
        self._token = token if callable(token) else lambda: token
        self._timeout, self._patience, self._tls = timeout, patience, tls
        self._lock = threading.Lock()
        self._first, self._index = 0, 0

    # Instances and their leases

    def register(self, namespace, name, service, **facts):
        """Registers, or registers again: the stored instance. `facts` are the other fields of the body."""
        path = f"/v1/namespaces/{_quoted(namespace)}/instances/{_quoted(name)}"
        return self._json("PUT", path, {"service": service, **facts})

    def heartbeat(self, namespace, name, uid=None, health=None, note=None, timeout=None):
        """Renews the lease: `{expiresAt, expiresInMs, renewAfterSeconds}`. Where a replica takes it and cannot promise
        anything (202), the next beat goes to another one."""
        path = f"/v1/namespaces/{_quoted(namespace)}/instances/{_quoted(name)}/heartbeat"
        said = {key: value for key, value in [("health", health), ("note", note)] if value is not None}
        answer = self._call("PUT", path + _query({"uid": uid}), body=said or None, timeout=timeout)
        if answer.status == 202:
            self._leave(answer.address)
        return json.loads(answer.body)

    def deregister(self, namespace, name, uid=None):
        """Takes it away; it is no error that it is not there."""
        path = f"/v1/namespaces/{_quoted(namespace)}/instances/{_quoted(name)}"
        try:
            self._call("DELETE", path + _query({"uid": uid}))
        except Problem as problem:
            if problem.status != 404:
                raise

    def keep(self, namespace, name, service, on_beat=None, **facts):
        """Registers, and beats from a thread of its own until `stop()` is called, which drains and deregisters."""
        return Lease(self, (namespace, name, service), facts, on_beat)

    # Services

    def discover(self, namespace, service, etag=None, wait=None, **filters):
        """The set `{revision, instances, …}` and its ETag; None in its place while it is the one of `etag`. With
        `wait` (`"30s"`) the answer is held back as long as that is so."""
        path = f"/v1/namespaces/{_quoted(namespace)}/services/{_quoted(service)}"
        headers = {"If-None-Match": etag} if etag else {}
        slow = self._timeout + (_seconds(wait) if wait else 0)
        answer = self._call("GET", path + _query({**filters, "wait": wait}), headers=headers, timeout=slow)
        found = None if answer.status == 304 else json.loads(answer.body)
        return found, answer.headers.get("ETag", etag)

    def poll(self, namespace, service, wait="30s", **filters):
        """Yields the set, and then each other one, by asking and waiting. Never ends by itself."""
        etag, failures = None, 0
        while True:
            try:
                found, etag = self.discover(namespace, service, etag=etag, wait=wait if etag else None, **filters)
                failures = 0
            except Away:
                failures += 1
                _pause(failures)
                continue
            if found is not None:
                yield found

    def watch(self, namespace, service, **filters):
        """Yields `(event, data)` of one service: `snapshot`, `upsert` and `remove`. Connects again, to whichever replica
        answers, where it was. Never ends by itself."""
        path = f"/v1/namespaces/{_quoted(namespace)}/services/{_quoted(service)}/watch" + _query(filters)
        last, failures, retry = None, 0, 1.0
        while True:
            try:
                connection, response = self._open("GET", path, headers={"Last-Event-ID": last} if last else {}, timeout=45.0)
            except Away:
                failures += 1
                _pause(failures)
                continue
            try:
                for event in _events(response):
                    if "retry" in event:
                        retry = event["retry"] / 1000
                    if "data" in event:
                        failures = 0
                        last = event.get("id", last)
                        yield event["event"], json.loads(event["data"])
            except (OSError, http.client.HTTPException):
                # It broke off, or said nothing for three times as long as it may.
                self._next(connection)
                retry = 0.0
            finally:
                connection.close()
            time.sleep(min(retry, 5.0) * random.random())

    def follow(self, namespace, service, **filters):
        """Yields the set as a dict of instances by name, by the events of `watch`."""
        instances = {}
        for event, data in self.watch(namespace, service, **filters):
            if event == "snapshot":
                instances = {instance["name"]: instance for instance in data["instances"]}
            elif event == "upsert":
                instances[data["name"]] = data
            else:
                instances.pop(data["name"], None)
            yield dict(instances)

    # How a call finds a replica

    def _json(self, method, path, body=None):
        return json.loads(self._call(method, path, body=body).body)

    def _call(self, method, path, body=None, headers=None, timeout=None):
        connection, response = self._open(method, path, body, headers, timeout or self._timeout)
        try:
            return Answer(connection.address, response.status, response.headers, response.read())
        except (OSError, http.client.HTTPException) as error:
            self._next(connection)
            # A write may have been done: all of these calls may be done twice.
            raise Away(f"the answer of {connection.address} broke off: {error}") from error
        finally:
            connection.close()

    def _open(self, method, path, body=None, headers=None, timeout=10.0):
        """The head of an answer that is a success. Tries one replica after the other."""
        until = time.monotonic() + self._patience
        tries, why = 0, "nothing was tried"
        while tries == 0 or time.monotonic() < until:
            tries += 1
            address = self._address()
            connection = self._connection(address, timeout)
            connection.address = address
            try:
                connection.request(method, path, *self._said(method, body, headers or {}))
                response = connection.getresponse()
                self._seen(response)
            except (OSError, http.client.HTTPException) as error:
                why = f"{address}: {error}"
                self._next(connection)
                if tries % len(self._addresses) == 0:
                    _pause(tries // len(self._addresses))
                continue
            if response.status < 400:
                return connection, response
            problem = _problem(response)
            connection.close()
            if response.status not in (429, 503):
                raise problem
            why = str(problem)
            if response.status == 503:
                self._next(connection)
            time.sleep(min(float(response.headers.get("Retry-After", 1)), 2.0) if tries >= len(self._addresses) else 0)
        raise Away(why)

    def _connection(self, address, timeout):
        if self._tls:
            return http.client.HTTPSConnection(address, timeout=timeout, context=self._tls)
        return http.client.HTTPConnection(address, timeout=timeout)

    def _said(self, method, body, headers):
        headers = dict(headers)
        token = self._token()
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if method == "GET" and self._index:
            headers["Rollcall-Min-Index"] = str(self._index)
        if body is None:
            return None, headers
        headers["Content-Type"] = "application/json"
        return json.dumps(body).encode(), headers

    def _seen(self, response):
        index = response.headers.get("Rollcall-Index", "")
        if index.isdigit():
            # What was seen before is of another store, which was restored from a backup.
            is_reset = response.headers.get("Rollcall-Index-Reset") == "true"
            with self._lock:
                self._index = int(index) if is_reset else max(self._index, int(index))

    def _address(self):
        with self._lock:
            return self._addresses[self._first]

    def _next(self, connection):
        """The next replica, unless another thread has gone on already."""
        connection.close()
        self._leave(connection.address)

    def _leave(self, address):
        with self._lock:
            if self._addresses[self._first] == address:
                self._first = (self._first + 1) % len(self._addresses)


class Lease:
    """An instance that is kept alive."""

    def __init__(self, rollcall, where, facts, on_beat):
        self._rollcall, self._where, self._facts = rollcall, where, facts
        self._on_beat = on_beat or (lambda renewal: None)
        self._ended = threading.Event()
        self.instance = rollcall.register(*where, **facts)
        self._thread = threading.Thread(target=self._run, name="rollcall lease", daemon=True)
        self._thread.start()

    def stop(self, drain=6.0):
        """Says that it is leaving, goes on beating for `drain` seconds, and deregisters. Answers of DNS may be kept for
        5 s: by then nothing new comes, and what has come can be finished."""
        if drain > 0:
            self._facts = {**self._facts, "health": "Stopping"}
            try:
                self._rollcall.heartbeat(*self._where[:2], health="Stopping")
                time.sleep(drain)
            except (Problem, Away) as failure:
                # No replica takes it: there is nothing to wait for.
                self._on_beat(failure)
        self._ended.set()
        self._thread.join()
        self._rollcall.deregister(*self._where[:2], uid=self.instance["uid"])

    def _run(self):
        renewal = self.instance["lease"]
        # None for a permanent instance, which needs no heartbeats.
        while renewal["renewAfterSeconds"] and not self._ended.wait(renewal["renewAfterSeconds"]):
            try:
                # A replica that does not answer may not cost more than one beat of three.
                renewal = self._rollcall.heartbeat(*self._where[:2], timeout=max(1.0, renewal["renewAfterSeconds"]))
            except Problem as problem:
                if problem.status not in (404, 410):
                    self._on_beat(problem)
                    continue
                try:
                    self.instance = self._rollcall.register(*self._where, **self._facts)
                    renewal = self.instance["lease"]
                except (Problem, Away) as failure:
                    self._on_beat(failure)
                    continue
            except Away as away:
                self._on_beat(away)
                continue
            self._on_beat(renewal)


def _problem(response):
    body = response.read()
    try:
        members = json.loads(body)
    except ValueError:
        members = {"detail": body.decode(errors="replace")}
    return Problem(response.status, members if isinstance(members, dict) else {})


def _events(response):
    """The blocks of a stream (WHATWG HTML, section 9.2), as dicts of their fields; comments are blocks without any."""
    event = {}
    while True:
        line = response.readline()
        if not line:
            return
        line = line.decode().rstrip("\r\n")
        if not line:
            yield event
            event = {}
            continue
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "data":
            event["data"] = event["data"] + "\n" + value if "data" in event else value
        elif field == "retry" and value.isdigit():
            event["retry"] = int(value)
        elif field in ("event", "id"):
            event[field] = value


def _pause(failures):
    """Longer with each failure, and by chance, so that not all come back at once."""
    time.sleep(min(5.0, 0.1 * 2 ** min(failures, 6)) * random.random())


def _seconds(wait):
    number, unit = wait.rstrip("ms"), wait.lstrip("0123456789")
    return int(number) * {"ms": 0.001, "s": 1, "m": 60}[unit]


def _quoted(name):
    return urllib.parse.quote(name, safe="")


def _query(parameters):
    given = {key: value for key, value in parameters.items() if value is not None}
    return "?" + urllib.parse.urlencode(given, doseq=True) if given else ""
