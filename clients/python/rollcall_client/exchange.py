"""One request and its response on a separate connection, with bounds on time and size."""

import functools
import http.client
import io
import math
import time

MAX_BYTES = 64 << 20  # for one body or one event: about 100,000 instances

# The exceptions of a connection. UnicodeError: the address is not a valid host name.
TRANSPORT_ERRORS = (OSError, http.client.HTTPException, UnicodeError)


class Exchange:
    """A request and its response. `begin` returns when the head of the response has arrived. The caller closes it."""

    def __init__(self, address):
        self.address, self.response, self._connection = address, None, None

    def begin(self, method, path, body, headers, timeout, tls):
        until = time.monotonic() + timeout
        if tls:
            self._connection = http.client.HTTPSConnection(self.address, timeout=timeout, context=tls)
        else:
            self._connection = http.client.HTTPConnection(self.address, timeout=timeout)
        self._connection.response_class = functools.partial(_Response, until=until)
        self._connection.request(method, path, body, headers)
        self.response = self._connection.getresponse()

    def read_body(self):
        pieces, size = [], 0
        while True:
            piece = self.response.read(65536)
            if not piece:
                break
            pieces.append(piece)
            size += len(piece)
            if size > MAX_BYTES:
                raise http.client.HTTPException(f"the body has more than {MAX_BYTES} bytes")
        if self.response.length:
            raise http.client.HTTPException(f"{self.response.length} bytes of the body are missing")
        return b"".join(pieces)

    def read_available(self, idle):
        """Returns the next bytes of a stream, or empty bytes at its end. Waits for at most `idle` seconds."""
        self.response.bound.set_idle(idle)
        return self.response.read1(65536)

    def close(self):
        if self.response is not None:
            self.response.close()
        if self._connection is not None:
            self._connection.close()


class _Response(http.client.HTTPResponse):
    """A response with one deadline for all its bytes. The timeout of a socket would restart with every byte."""

    def __init__(self, sock, *args, until, **kwargs):
        super().__init__(sock, *args, **kwargs)
        self.bound = _BoundedReader(self.fp.detach(), sock, until)
        self.fp = io.BufferedReader(self.bound, 65536)


class _BoundedReader(io.RawIOBase):
    def __init__(self, raw, sock, until):
        super().__init__()
        self._raw, self._sock, self._until, self._idle = raw, sock, until, math.inf

    def set_idle(self, seconds):
        """Replaces the deadline of the response by a bound for each read from now on."""
        self._until, self._idle = math.inf, seconds

    def readable(self):
        return True

    def readinto(self, buffer):
        # Tests use the real clock here too, because the operating system does the waiting.
        left = min(self._idle, self._until - time.monotonic())
        if left <= 0:
            raise TimeoutError("the response was not complete in time")
        self._sock.settimeout(left)
        return self._raw.readinto(buffer)

    def close(self):
        self._raw.close()
        super().close()
