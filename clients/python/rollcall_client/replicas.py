"""Finds a replica that answers a call. Owns the order of the replicas, the pauses between tries, the token, and the index
of the last read."""

import json
import math
import random
import re
import threading
import time

from .answers import problem_of
from .errors import LOG, BadAnswer, RollcallError, Unavailable, is_status
from .exchange import TRANSPORT_ERRORS, Exchange

LONGEST_WAIT = 60.0  # seconds: the longest Retry-After that rollcall sends
LONGEST_BACKOFF = 10.0  # seconds


class Clock:
    """Time and randomness. Tests pass another clock to `Rollcall`."""

    monotonic = staticmethod(time.monotonic)
    wall_time = staticmethod(time.time)
    sleep = staticmethod(time.sleep)
    random = staticmethod(random.random)

    @staticmethod
    def wait(event, seconds):
        return event.wait(seconds)


class Replicas:
    """The replicas, and which of them is called first. Several threads can share it."""

    def __init__(self, addresses, token, timeout, patience, tls, clock):
        self.addresses, self.timeout, self.patience, self.clock = list(addresses), timeout, patience, clock
        self._token, self._tls = token, tls
        self._lock = threading.Lock()
        self._first, self._index = 0, 0

    def call(self, method, path, parse, body=None, headers=None, timeout=None, patience=None):
        """Calls a replica and returns the parsed answer. Every call is idempotent, so it can be repeated after a lost answer."""
        encoded = None if body is None else json.dumps(body).encode()

        def attempt(address, token):
            exchange = self._open(address, token, method, path, encoded, headers or {}, timeout or self.timeout)
            try:
                found = parse(exchange.response, exchange.read_body())
            except TRANSPORT_ERRORS as error:
                raise Unavailable(f"{address}: the answer is incomplete: {error!r}") from error
            except ValueError as error:
                raise BadAnswer(f"{address}: status {exchange.response.status}: {error}") from error
            finally:
                exchange.close()
            if exchange.response.status == 202:
                # The replica did not confirm the call, because it may be cut off from the others.
                self.leave(address)
            return found

        return self._retry(attempt, self.patience if patience is None else patience)

    def open_stream(self, path, headers):
        """Opens a stream and returns its exchange when the head has arrived. Asks each replica once. The caller closes it."""
        return self._retry(lambda address, token: self._open(address, token, "GET", path, None, headers, self.timeout), 0)

    def leave(self, address):
        """Makes the next replica the first one to call, unless another thread has done so."""
        with self._lock:
            if self.addresses[self._first] == address:
                self._first = (self._first + 1) % len(self.addresses)

    def delay(self, failures, failure=None):
        """Returns the seconds to wait after `failures` consecutive failures. The wait grows with each failure, is at least
        `Retry-After`, and has a random part, so that clients do not all return at the same time."""
        backoff = min(LONGEST_BACKOFF, 0.1 * 2 ** min(failures, 10)) * (0.5 + self.clock.random() / 2)
        retry_after = getattr(failure, "retry_after", None) or 0.0
        return max(backoff, min(retry_after, LONGEST_WAIT) * (1 + self.clock.random() / 10))

    def pause(self, what, failures, failure):
        wait = self.delay(failures, failure)
        LOG.warning("%s: %s; next try in %.1f s", what, failure, wait)
        self.clock.sleep(wait)

    def _retry(self, attempt, patience):
        """Calls `attempt` with each replica in turn until it succeeds, and pauses after each round. Raises the last failure
        when the next pause would exceed `patience`."""
        until = self.clock.monotonic() + patience
        tries, is_token_renewed = 0, False
        while True:
            address, token = self._current_address(), self._token.current()
            try:
                return attempt(address, token)
            except RollcallError as failure:
                if is_status(failure, 401) and not is_token_renewed and self._token.has_changed(token):
                    is_token_renewed = True
                    continue
                if not failure.is_transient:
                    raise
                # 429 limits the caller, so the other replicas would answer the same.
                is_busy = is_status(failure, 429)
                if not is_busy:
                    self.leave(address)
                tries += 1
                if tries % len(self.addresses) and not is_busy:
                    continue
                wait = self.delay(math.ceil(tries / len(self.addresses)), failure)
                if self.clock.monotonic() + wait >= until:
                    raise
            self.clock.sleep(wait)

    def _open(self, address, token, method, path, body, headers, timeout):
        """Sends one request to one replica, and returns the exchange if the status is a success. The caller closes it."""
        headers = dict(headers)
        if token:
            headers["Authorization"] = f"Bearer {token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        asked_index = self._index if method == "GET" else 0
        if asked_index:
            headers["Rollcall-Min-Index"] = str(asked_index)
        exchange = Exchange(address)
        try:
            exchange.begin(method, path, body, headers, timeout, self._tls)
            status = exchange.response.status
            self._observe_index(exchange.response.headers, asked_index)
            if status in (200, 201, 202, 204, 304):
                return exchange
            if status < 400:
                # Redirects are not followed, because the token is for rollcall only.
                raise BadAnswer(f"{address}: status {status}, which rollcall never sends")
            raise problem_of(exchange, self.clock.wall_time())
        except TRANSPORT_ERRORS as error:
            exchange.close()
            raise Unavailable(f"{address}: {error!r}") from error
        except BaseException:
            exchange.close()
            raise

    def _observe_index(self, headers, asked_index):
        index = headers.get("Rollcall-Index", "")
        # At most 18 digits, so that the client never sends an index that the server cannot parse.
        if not re.fullmatch("[0-9]{1,18}", index):
            return
        is_reset = headers.get("Rollcall-Index-Reset") == "true"
        with self._lock:
            # The store was restored from a backup, and `asked_index` is from before that. If the index is already lower,
            # another thread has reset it, and may have observed a newer one since.
            if is_reset and self._index >= asked_index:
                self._index = int(index)
            else:
                self._index = max(self._index, int(index))

    def _current_address(self):
        with self._lock:
            return self.addresses[self._first]
