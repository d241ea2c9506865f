"""The exceptions of the client, and functions that classify failures."""

import logging

LOG = logging.getLogger("rollcall")


class RollcallError(Exception):
    """The base class of all failures of a call. `is_transient`: another try, or another replica, can succeed. `retry_after`:
    the seconds to wait according to the answer, or None."""

    is_transient = True
    retry_after = None


class Unavailable(RollcallError):
    """No complete answer: no connection, a timeout, or a connection that broke."""


class BadAnswer(RollcallError):
    """An answer that the API does not define: HTML, a redirect, or JSON without required members."""


class TokenError(RollcallError):
    """The bearer token cannot be read, or cannot be sent."""

    is_transient = False


class Problem(RollcallError):
    """An error status with its problem (RFC 9457). Programs use `type`; `detail` is text for users."""

    def __init__(self, status, members, retry_after=None):
        self.status, self.members, self.retry_after = status, members, retry_after
        full_type, detail, errors = (members.get(key) for key in ("type", "detail", "errors"))
        self.type = full_type.rsplit(":", 1)[-1] if isinstance(full_type, str) else "about:blank"
        self.detail = detail if isinstance(detail, str) else ""
        self.errors = errors if isinstance(errors, list) else []
        self.is_from_rollcall = isinstance(full_type, str) and full_type.startswith("tag:rollcall.dev,")
        self.is_transient = status in (408, 421, 425, 429) or status >= 500
        super().__init__(f"{status} {self.type}: {self.detail}")


def is_status(failure, status):
    return isinstance(failure, Problem) and failure.status == status


def is_permanent_refusal(failure, has_begun):
    """Whether rollcall refuses the parameters of a stream. After the first success a refusal has another cause: a replica of
    another version, or the id or ETag that the client sends."""
    return not has_begun and is_status(failure, 400) and failure.is_from_rollcall
