"""Drives the client for tests/integration/python.rs: drive.py NAMESPACE FIRST SECOND.

Registers and sends heartbeats to the first replica, follows at the second by a stream and by long polls, and prints what it
observes as lines of JSON, until its standard input ends.
"""

import json
import sys
import threading

from rollcall_client import Rollcall

LOCK = threading.Lock()

# An index of a store that was restored from a backup since: no replica ever reaches it.
INDEX_BEFORE_RESTORE = 10**15


def tell(via, **said):
    with LOCK:
        print(json.dumps({"via": via, **said}), flush=True)


def beaten(renewal):
    if isinstance(renewal, Exception):
        tell("beat", failed=str(renewal))
    else:
        tell("beat", left=renewal["expiresInMs"])


def stream(rollcall, namespace):
    for instances in rollcall.follow(namespace, "orders"):
        tell("stream index", index=rollcall._replicas._index)
        tell("stream", names=sorted(instances))


def polls(rollcall, namespace):
    for found in rollcall.poll(namespace, "orders", wait="5s"):
        tell("poll index", index=rollcall._replicas._index)
        tell("poll", names=sorted(instance["name"] for instance in found["instances"]))


def main():
    namespace, first, second = sys.argv[1:]
    lease = Rollcall([first, second], timeout=3.0).keep(
        namespace, "python", "orders", on_beat=beaten, addresses=["10.0.0.7"], lease={"durationSeconds": 6}
    )
    tell("registered", uid=lease.instance["uid"])
    for follow in (stream, polls):
        rollcall = Rollcall([second, first], timeout=3.0)
        rollcall._replicas._index = INDEX_BEFORE_RESTORE
        threading.Thread(target=follow, args=(rollcall, namespace), daemon=True).start()
    sys.stdin.read()
    lease.stop()
    tell("stopped")


main()
