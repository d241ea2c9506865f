"""Drives a replica with the client that openapi-python-client generates from openapi.json: register, send a heartbeat,
discover, deregister.

    drive.py http://127.0.0.1:8080 NAMESPACE
"""

import importlib
import pkgutil
import sys

import rollcall_client
from rollcall_client import Client
from rollcall_client.api.heartbeats import heartbeat
from rollcall_client.api.instances import deregister_instance, register_instance
from rollcall_client.api.services import discover
from rollcall_client.models import (
    DiscoverHealth,
    DiscoverOrder,
    Health,
    HealthReport,
    Heartbeat,
    LeaseMode,
    Phase,
    ProblemType,
    Registration,
    RegistrationAttributesType0,
    RegistrationPort,
)

SERVICE = "generated"
NAME = "generated-python"
ADDRESS = "10.0.0.7"


def check(holds, call, answer):
    if not holds:
        sys.exit(f"python: {call}: unexpected answer {answer}")


def drive(url, namespace):
    client = Client(base_url=url, timeout=30)
    attributes = RegistrationAttributesType0.from_dict({"team": "blue"})
    registration = Registration(
        service=SERVICE,
        addresses=[ADDRESS],
        ports=[RegistrationPort(name="http", port=8080)],
        attributes=attributes,
        tags=["python"],
    )

    answer = register_instance.sync_detailed(namespace, NAME, client=client, body=registration)
    check(answer.status_code == 201, "register", answer)
    instance = answer.parsed
    lease = instance.lease
    check(instance.name == NAME and lease.mode == LeaseMode.HEARTBEAT and lease.renew_after_seconds == 10, "register", answer)

    beat = Heartbeat(health=HealthReport.WARNING, note="the disk is nearly full")
    answer = heartbeat.sync_detailed(namespace, NAME, client=client, body=beat, uid=instance.uid)
    check(answer.status_code == 200 and answer.parsed.expires_in_ms >= 20_000, "heartbeat", answer)

    def instances():
        answer = discover.sync_detailed(
            namespace, SERVICE, client=client, tag=["python"], health=DiscoverHealth.ANY, order=DiscoverOrder.WEIGHTED
        )
        check(answer.status_code == 200 and answer.parsed.service == SERVICE, "discover", answer)
        return answer.parsed.instances

    found = instances()
    it = next((it for it in found if it.name == NAME), None)
    check(it is not None and it.uid == instance.uid and it.addresses == [ADDRESS], "discover", found)
    check(it.ports[0].port == 8080 and it.attributes["team"] == "blue" and it.created_at.tzinfo is not None, "discover", it)
    check(it.health == Health.WARNING and it.phase == Phase.WARNING, "discover", it)

    registration.hostname = "db.example.com"
    answer = register_instance.sync_detailed(namespace, NAME, client=client, body=registration)
    check(
        answer.status_code == 422
        and answer.parsed.type_ == ProblemType.TAGROLLCALL_DEV2026BAD_FIELDS
        and len(answer.parsed.errors) == 1,
        "a registration with addresses and hostname",
        answer,
    )

    answer = deregister_instance.sync_detailed(namespace, NAME, client=client, uid=instance.uid)
    check(answer.status_code == 204, "deregister", answer)
    left = instances()
    check(all(it.name != NAME for it in left), "discover", left)


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: drive.py URL NAMESPACE")
    # Importing a module is what reveals its errors.
    for module in pkgutil.walk_packages(rollcall_client.__path__, "rollcall_client."):
        importlib.import_module(module.name)
    drive(sys.argv[1], sys.argv[2])
    print("python: registered, renewed, discovered and deregistered")


main()
