"""A client of rollcall for Python 3.9 and later, with only the standard library.

Written from openapi.json. A call goes to the replica that answered last and, when that one fails, to the next. Reads never
go back, whichever replica answers (Rollcall-Min-Index). README.md says what happens on each kind of failure.
"""

from .client import Rollcall
from .errors import BadAnswer, Problem, RollcallError, TokenError, Unavailable
from .event_stream import EventParser
from .lease import Lease
from .replicas import Clock

__all__ = ["BadAnswer", "Clock", "EventParser", "Lease", "Problem", "Rollcall", "RollcallError", "TokenError", "Unavailable"]
