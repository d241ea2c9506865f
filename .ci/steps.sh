# shellcheck shell=bash
# Shared by .ci/run and .ci/full: runs steps one after the other, stops at the first failure, and prints the duration
# of each. For sourcing only; it changes the working directory to the root of the repository.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Where tests/run installs kubectl if the machine has none.
PATH=$PATH:${XDG_CACHE_HOME:-$HOME/.cache}/rollcall/bin

fail() {
	echo "$0: $*" >&2
	exit 1
}

current_step=
begun=0
times=()

# Announces a step, runs it, and prints its duration. Do not use `||` here: bash would then continue after a
# failed command inside the step.
step() {
	current_step=$1
	begun=$SECONDS
	shift
	printf '\n==> %s\n' "$current_step"
	"$@"
	times+=("$current_step" "$((SECONDS - begun))")
	printf '==> %s: %s s\n' "${times[@]: -2}"
	current_step=
}

# The last command of a script: prints the table of its steps in the format of CONTRIBUTING.md.
passed() {
	printf '\n| step | seconds |\n|---|---|\n'
	printf '| %s | %s |\n' "${times[@]}" all "$SECONDS"
	printf '\n%s: every step passed, after %s s\n' "$0" "$SECONDS"
}

# Reports the failed step, whichever command ended the script.
ended() {
	[ -z "$current_step" ] || echo "$0: $current_step: failed after $((SECONDS - begun)) s" >&2
}
trap ended EXIT
