"""A client of rollcall for Python 3.9 and later that needs only the standard library.

It was written from openapi.json. A call goes to the replica that answered last and, if that replica fails, to the next. A read
never returns an older state than an earlier read, whichever replica answers (Rollcall-Min-Index). README.md describes what
happens on each kind of failure.
"""

from .client import Rollcall
from .errors import BadAnswer, Problem, RollcallError, TokenError, Unavailable
from .event_stream import EventParser
from .lease import Lease
from .replicas import Clock

__all__ = ["BadAnswer", "Clock", "EventParser", "Lease", "Problem", "Rollcall", "RollcallError", "TokenError", "Unavailable"]
