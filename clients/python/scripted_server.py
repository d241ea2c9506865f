"""A server that replaces a replica and sends exactly the bytes of a script, and a clock that does not wait."""

import collections
import json
import queue
import socket
import threading

from rollcall_client import Clock

BOUND = 10.0  # seconds, for everything that tests wait for

Request = collections.namedtuple("Request", "method path headers body")


def answer(status="200 OK", body="", **headers):
    """Returns the bytes of an answer. Names in `headers` have `_` instead of `-`. A header that is None is left out."""
    body = body if isinstance(body, (str, bytes)) else json.dumps(body)
    body = body.encode() if isinstance(body, str) else body
    lines = {"Content_Type": "application/json", "Content_Length": len(body), **headers}
    head = [f"{name.replace('_', '-')}: {value}" for name, value in lines.items() if value is not None]
    return "\r\n".join([f"HTTP/1.1 {status}", *head, "", ""]).encode("latin-1") + body


def problem(status, kind, **headers):
    members = {"type": f"tag:rollcall.dev,2026:{kind}", "title": "…", "detail": "…"}
    return answer(status, members, **{"Content_Type": "application/problem+json", **headers})


def stream(text, **headers):
    """An answer that ends with its connection."""
    return answer("200 OK", text, **{"Content_Type": "text/event-stream", "Content_Length": None, **headers})


def chunks(*pieces, is_complete=True, **headers):
    """A stream in chunks. With `is_complete=False` it lacks the last chunk."""
    whole = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in (piece.encode() for piece in pieces))
    return stream(b"", Transfer_Encoding="chunked", **headers) + whole + (b"0\r\n\r\n" if is_complete else b"")


class ScriptedServer:
    """A server that accepts one connection at a time. Each request is answered by the next entry of `script`, which is bytes
    or a function of the socket, and then the connection is closed. After the end of the script it sends `otherwise`."""

    def __init__(self, *script, otherwise=None):
        self.script, self.requests = collections.deque(script), []
        self.otherwise = answer("503 Service Unavailable", "the script has ended") if otherwise is None else otherwise
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(BOUND)
        self._listener.close()

    def _serve(self):
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(BOUND)
            with connection, connection.makefile("rb") as reader:
                try:
                    self.requests.append(_read_request(reader))
                    action = self.script.popleft() if self.script else self.otherwise
                    if callable(action):
                        action(connection)
                    else:
                        connection.sendall(action)
                except OSError:
                    pass  # The client has closed the connection, as in some tests.


def _read_request(reader):
    method, path, _ = reader.readline().decode().split()
    headers = {}
    for line in iter(lambda: reader.readline().decode().strip(), ""):
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return Request(method, path, headers, reader.read(int(headers.get("content-length", 0))))


def reset(connection):
    """Ends a connection with RST instead of FIN."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


class FakeClock(Clock):
    """A clock whose sleeps are recorded and take no time. A thread that waits for an event continues at the next `step`."""

    def __init__(self, random=0.0):
        self.now, self.sleeps, self.waits = 1_000.0, [], queue.Queue()
        self._random, self._steps = random, threading.Semaphore(0)

    def monotonic(self):
        return self.now

    def wall_time(self):
        return 1_700_000_000.0 + self.now

    def sleep(self, seconds):
        self.sleeps.append(seconds)
        self.now += seconds
        if len(self.sleeps) > 1_000:
            raise AssertionError("the client retries endlessly")

    def random(self):
        return self._random

    def wait(self, event, seconds):
        self.waits.put(seconds)
        while not event.is_set() and not self._steps.acquire(timeout=0.01):
            pass
        self.now += seconds
        return event.is_set()

    def next_wait(self):
        """Returns the length of the heartbeat thread's next wait. Fails if the thread has ended."""
        try:
            return self.waits.get(timeout=BOUND)
        except queue.Empty:
            raise AssertionError("the heartbeat thread has ended") from None

    def step(self):
        """Ends the current wait, and returns the length of the next one."""
        self._steps.release()
        return self.next_wait()
