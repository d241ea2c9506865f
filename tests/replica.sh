# shellcheck shell=bash
# What tests/contract/run and tests/clients/run share: `rollcall dev` in a folder of its own, and the end of all that was
# started. To be sourced at the top of the repository by a script with `set -euo pipefail`.
#
# Sets `rollcall`, the executable, and `made`, a folder that is removed at the end. Does not own: what is asked of the replica.

rollcall="${CARGO_TARGET_DIR:-target}/debug/rollcall"
made=$(mktemp -d)
started=()

fail() {
	echo "$0: $*" >&2
	exit 1
}

# The last started ends first. SIGTERM ends `rollcall dev` with all that it has started.
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

# Repeats a command until it succeeds, for so many seconds.
until_ok() {
	local until=$((SECONDS + $1))
	shift
	until "$@" >/dev/null 2>&1; do
		[ "$SECONDS" -lt "$until" ] || fail "not in time: $*"
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
