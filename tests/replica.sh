# shellcheck shell=bash
# Shared by tests/contract/run and tests/clients/run: starts `rollcall dev` in a temporary folder, and stops everything
# at the end. To be sourced in the root of the repository, by a script with `set -euo pipefail`.
#
# Sets `rollcall`, the executable, and `made`, a temporary folder that is removed at the end. Does not own: the
# requests to the replica.

rollcall="${CARGO_TARGET_DIR:-target}/debug/rollcall"
made=$(mktemp -d)
started=()

fail() {
	echo "$0: $*" >&2
	exit 1
}

# Stops processes in reverse order. SIGTERM stops `rollcall dev` with everything that it has started.
ended() {
	local status=$? i
	for ((i = ${#started[@]} - 1; i >= 0; i--)); do
		kill "${started[i]}" 2>/dev/null || true
		wait "${started[i]}" 2>/dev/null || true
	done
	[ "$status" -eq 0 ] || tail -n 5 "$made"/*.log >&2
	rm -rf "$made"
}
trap ended EXIT

# Repeats a command until it succeeds, for at most this many seconds.
until_ok() {
	local until=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$until" ] || fail "not successful in time: $*"
		sleep 0.2
	done
}

free_port() {
	python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}

# Starts `rollcall dev`. Its state is in $made/state.
start_dev() {
	"$rollcall" dev --state-dir "$made/state" --http-listen 127.0.0.1:0 --dns-listen 127.0.0.1:0 --admin-listen 127.0.0.1:0 \
		>"$made/dev.log" 2>&1 &
	started+=($!)
	# The first start builds the control plane.
	until_ok 900 test -s "$made/state/dev.json"
}
