# shellcheck shell=bash
# What .ci/run and .ci/full share: they run steps one by one, stop at the first that fails, and print how long each
# took. To be sourced; the working directory is the top of the repository from then on.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Where tests/run puts kubectl when the machine has none.
PATH=$PATH:${XDG_CACHE_HOME:-$HOME/.cache}/rollcall/bin

fail() {
	echo "$0: $*" >&2
	exit 1
}

under_way=
begun=0
times=()

# Announces a step, runs it, and says how long it took. No `||` here: it would make bash go on after a failed command
# inside the step.
step() {
	under_way=$1
	begun=$SECONDS
	shift
	printf '\n==> %s\n' "$under_way"
	"$@"
	times+=("$under_way" "$((SECONDS - begun))")
	printf '==> %s: %s s\n' "${times[@]: -2}"
	under_way=
}

# The last command of a script: the table of its steps, ready for CONTRIBUTING.md.
passed() {
	printf '\n| step | seconds |\n|---|---|\n'
	printf '| %s | %s |\n' "${times[@]}" all "$SECONDS"
	printf '\n%s: every step passed, after %s s\n' "$0" "$SECONDS"
}

# The last words when a step has failed, whichever command ended the script.
ended() {
	[ -z "$under_way" ] || echo "$0: $under_way: failed after $((SECONDS - begun)) s" >&2
}
trap ended EXIT
