"""Drives the client for tests/integration/python_client.rs: drive.py NAMESPACE FIRST SECOND.

Registers an instance and sends heartbeats through the first replica, watches the service through the second by a stream and by
long polls, and prints what it observes as lines of JSON, until its standard input ends.
"""

import json
import sys
import threading

from rollcall_client import Rollcall

LOCK = threading.Lock()

# An index from before the store was restored from a backup, higher than any index of the restored store.
INDEX_BEFORE_RESTORE = 10**15


def print_line(via, **members):
    with LOCK:
        print(json.dumps({"via": via, **members}), flush=True)


def report_heartbeat(renewal):
    if isinstance(renewal, Exception):
        print_line("beat", failed=str(renewal))
    else:
        print_line("beat", left=renewal["expiresInMs"])


def follow_stream(rollcall, namespace):
    for instances in rollcall.follow(namespace, "orders"):
        print_line("stream index", index=rollcall._replicas._index)
        print_line("stream", names=sorted(instances))


def follow_polls(rollcall, namespace):
    for found in rollcall.poll(namespace, "orders", wait="5s"):
        print_line("poll index", index=rollcall._replicas._index)
        print_line("poll", names=sorted(instance["name"] for instance in found["instances"]))


def main():
    namespace, first, second = sys.argv[1:]
    lease = Rollcall([first, second], timeout=3.0).keep(
        namespace, "python", "orders", on_beat=report_heartbeat, addresses=["10.0.0.7"], lease={"durationSeconds": 6}
    )
    print_line("registered", uid=lease.instance["uid"])
    for follow in (follow_stream, follow_polls):
        rollcall = Rollcall([second, first], timeout=3.0)
        rollcall._replicas._index = INDEX_BEFORE_RESTORE
        threading.Thread(target=follow, args=(rollcall, namespace), daemon=True).start()
    sys.stdin.read()
    lease.stop()
    print_line("stopped")


main()
