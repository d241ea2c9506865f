"""What is sent is bounded where it would only make the run wait; and what HTTP itself demands is no failure."""

import re

import schemathesis

NAME = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
UNSAID = ("is given twice", "is there twice", "service is immutable")
WAIT = re.compile("([0-9]{1,9})(ms|s|m)")
UNITS = {"ms": 1, "s": 1000, "m": 60000}


def is_wait(text):
    """One that the server would wait for; others it refuses, and they are sent as they are."""
    parts = WAIT.fullmatch(text)
    return bool(parts) and 0 < int(parts[1]) * UNITS[parts[2]] <= 300000


@schemathesis.hook
def before_call(context, case, kwargs):
    """A wait is for something to happen, and here nothing does: 20 ms of it are enough. An index that the
    store has not reached costs a list of it, at most one a second; tests/integration asks for one. A namespace has to
    be there before anything can be in it: `rollcall dev` has made shop."""
    query, headers, path = case.query, case.headers, case.path_parameters
    if query and isinstance(query.get("wait"), str) and is_wait(query["wait"]):
        query["wait"] = "20ms"
    for name in list(headers or {}):
        if name.lower() == "rollcall-min-index" and re.fullmatch("[0-9]{1,20}", str(headers[name])) and int(headers[name]) < 2**64:
            headers[name] = "1"
    if path and NAME.fullmatch(str(path.get("namespace", ""))):
        path["namespace"] = "shop"
    if case.meta and case.meta.generation.mode.is_positive:
        for registration in registrations(case):
            give_one_address(registration)


def registrations(case):
    """The registrations in the body of a request."""
    operation, body = case.operation.definition.raw.get("operationId"), case.body
    if not isinstance(body, dict):
        return []
    if operation == "registerInstances":
        instances = body.get("instances")
        return [it for it in instances if isinstance(it, dict)] if isinstance(instances, list) else []
    return [body] if operation in ("registerInstance", "registerInstanceOfService") else []


def give_one_address(registration):
    """Exactly one of addresses and hostname is given. The schema allows both and neither, as generators of clients cannot
    take the rule; without this most registrations would be refused for it. tests/integration/http_errors.rs holds that it is
    enforced."""
    if registration.get("addresses") is not None:
        registration.pop("hostname", None)
    elif registration.get("hostname") is None:
        registration["addresses"] = ["10.0.0.7"]


@schemathesis.check
def problem_of_its_response(context, response, case):
    """A problem has the status of its answer, and a type that the contract lists there. The schema of all problems is one, and
    does not say this."""
    document = case.operation.schema.raw_schema
    responses = document["paths"][case.operation.path][case.operation.method.lower()]["responses"]
    described = responses.get(str(response.status_code), {})
    if "$ref" in described:
        described = document["components"]["responses"][described["$ref"].rsplit("/", 1)[1]]
    types = described.get("x-problem-types")
    if types is None or case.method.upper() == "HEAD" or not response.content:
        return
    problem = response.json()
    assert problem["status"] == response.status_code, f"the problem has the status {problem['status']}"
    assert problem["type"] in types, f"the problem has the type {problem['type']}, which is not among {types}"


@schemathesis.hook
def filter_failure(context, failure, case, response):
    kind = type(failure).__name__
    if kind == "AcceptedNegativeData":
        # A header that nobody knows has to be ignored (RFC 9110, section 5.1). A parameter of the query that nobody knows is
        # refused, and that is not filtered.
        return not any(name.lower().startswith("x-schemathesis-") for name in case.headers or {})
    if kind == "RejectedPositiveData":
        # What no schema can say: that names differ, and that a service is for good.
        return not any(said in response.text for said in UNSAID)
    return True
