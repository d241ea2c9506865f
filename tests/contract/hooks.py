"""Hooks for schemathesis. They adjust requests that would only delay the run, and do not report behaviour that HTTP requires."""

import re

import schemathesis

NAME = re.compile("[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
NOT_IN_SCHEMA = ("is given twice", "is there twice", "service is immutable")
WAIT = re.compile("([0-9]{1,9})(ms|s|m)")
UNITS = {"ms": 1, "s": 1000, "m": 60000}


def is_wait(text):
    """Whether the server accepts this wait. Invalid values are sent unchanged, because the server must reject them."""
    parts = WAIT.fullmatch(text)
    return bool(parts) and 0 < int(parts[1]) * UNITS[parts[2]] <= 300000


@schemathesis.hook
def before_call(context, case, kwargs):
    """Adjusts a request. A wait becomes 20 ms, because nothing changes while it lasts. A minimum index becomes 1, because a
    replica lists (at most once a second) for an index above the store's; tests/integration covers that. The namespace
    becomes shop, which `rollcall dev` has created, because an instance needs a namespace that exists."""
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
    """Returns the registrations in the body of a request."""
    operation, body = case.operation.definition.raw.get("operationId"), case.body
    if not isinstance(body, dict):
        return []
    if operation == "registerInstances":
        instances = body.get("instances")
        return [it for it in instances if isinstance(it, dict)] if isinstance(instances, list) else []
    return [body] if operation in ("registerInstance", "registerInstanceOfService") else []


def give_one_address(registration):
    """Sets exactly one of addresses and hostname. The schema allows both and neither, because client generators do not
    support this rule; without this function the server would reject most registrations. tests/integration/http_errors.rs
    tests the rule."""
    if registration.get("addresses") is not None:
        registration.pop("hostname", None)
    elif registration.get("hostname") is None:
        registration["addresses"] = ["10.0.0.7"]


@schemathesis.check
def problem_of_its_response(context, response, case):
    """Checks that a problem has the status of its response, and a type that the contract lists for it. The schema is the
    same for all problems and cannot express this."""
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
        # A server must ignore unknown header fields (RFC 9110, section 5.1). Unknown query parameters are
        # rejected, and that is not filtered.
        return not any(name.lower().startswith("x-schemathesis-") for name in case.headers or {})
    if kind == "RejectedPositiveData":
        # Rules that a schema cannot express: names in a batch must differ, and the service of an instance is
        # immutable.
        return not any(rule in response.text for rule in NOT_IN_SCHEMA)
    return True
