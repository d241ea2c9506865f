"""Checks that an answer has the members that the client needs, and ignores all others. On an answer that the API does not
define, each function raises ValueError, which the caller converts to a BadAnswer."""

import email.utils
import json
import math
import re

from .errors import Problem
from .exchange import TRANSPORT_ERRORS

PERMANENT_INTERVAL = 60.0  # seconds between heartbeats of a permanent instance, which only detect that it was deleted


def parse_json(body):
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("the body is not JSON") from None


def check_deregistered(response, _body):
    _expect(response.status == 204, "a deregistration is answered 204")


def parse_instance(_response, body):
    instance = parse_json(body)
    _expect(isinstance(instance, dict) and isinstance(instance.get("uid"), str), "the instance has no uid")
    interval_of(instance.get("lease"))
    return instance


def parse_renewal(_response, body):
    renewal = parse_json(body)
    interval_of(renewal)
    return renewal


def interval_of(lease):
    """Returns the seconds until the next heartbeat. rollcall sends 0.666 to 28,800, and null for a permanent instance."""
    _expect(isinstance(lease, dict) and "renewAfterSeconds" in lease, "renewAfterSeconds is missing")
    seconds = lease["renewAfterSeconds"]
    if seconds is None:
        return PERMANENT_INTERVAL
    _expect(isinstance(seconds, (int, float)) and not isinstance(seconds, bool), "renewAfterSeconds is not a number")
    _expect(0 < seconds < math.inf, "renewAfterSeconds is not positive and finite")
    return float(min(max(seconds, 0.1), 28_800))


def parse_set(body):
    return _checked_set(parse_json(body))


def parse_event(block):
    """Returns the name of an event and its data, or None for an event that this client does not know."""
    if block.data is None or block.event not in ("snapshot", "upsert", "remove"):
        return None
    data = parse_json(block.data)
    if block.event == "snapshot":
        _checked_set(data)
    else:
        _expect(_is_named(data), f"the {block.event} event has no instance name")
    return block.event, data


def problem_of(exchange, now):
    """Returns the problem of an answer with an error status. A body that is not JSON raises no ValueError, because the
    status is enough."""
    headers, body = exchange.response.headers, b""
    try:
        body = exchange.read_body()
        members = parse_json(body)
    except (*TRANSPORT_ERRORS, ValueError):
        members = {"detail": body[:200].decode(errors="replace")}
    return Problem(exchange.response.status, members if isinstance(members, dict) else {}, retry_after_of(headers, now))


def retry_after_of(headers, now):
    """Returns the seconds in `Retry-After`, which is a number or a date (RFC 9110, section 10.2.3). None for other values."""
    value = (headers.get("Retry-After") or "").strip()
    if re.fullmatch("[0-9]+", value):
        return float(value)
    until = _timestamp_of(value)
    if until is None:
        return None
    # If the server sends Date, its clock counts, because this machine's clock can differ by more than the wait.
    server_now = _timestamp_of(headers.get("Date") or "")
    return max(0.0, until - (now if server_now is None else server_now))


def _timestamp_of(date):
    try:
        return email.utils.parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError, OSError):
        return None


def _checked_set(found):
    instances = found.get("instances") if isinstance(found, dict) else None
    _expect(isinstance(instances, list) and all(map(_is_named, instances)), "the list of instances is missing")
    return found


def _is_named(instance):
    return isinstance(instance, dict) and isinstance(instance.get("name"), str)


def _expect(holds, message):
    if not holds:
        raise ValueError(message)
