#!/usr/bin/env bash
# Checks that an image of deploy/image/build.sh can start:
#
#     deploy/image/check.sh IMAGE.tar
#
# unpacks the image and runs its entry point as its user, with its files as a read-only root and nothing else: no /proc, no
# devices, no capabilities. It needs jq, and root or a kernel with unprivileged user namespaces.
set -euo pipefail
[ $# -eq 1 ] || {
	echo "usage: deploy/image/check.sh IMAGE.tar" >&2
	exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
mkdir "$root"
tar -C "$work" -xf "$1"

fail() {
	echo "image: $*" >&2
	exit 1
}
# Prints one value of a JSON file.
json_value() {
	jq --exit-status --raw-output "$2" "$work/$1"
}

config=$(json_value manifest.json '.[0].Config')
layer=$(json_value manifest.json '.[0].Layers | if length == 1 then .[0] else error("not one layer") end')
[ "sha256:$(sha256sum "$work/$layer" | cut -d ' ' -f 1)" = "$(json_value "$config" '.rootfs.diff_ids[0]')" ] ||
	fail "the layer differs from the one in the configuration"
user=$(json_value "$config" .config.User)
[[ $user =~ ^([1-9][0-9]*):([1-9][0-9]*)$ ]] ||
	fail "the user is $user, but runAsNonRoot needs a numeric user and group other than 0"
uid=${BASH_REMATCH[1]} gid=${BASH_REMATCH[2]}
entrypoint=$(json_value "$config" '.config.Entrypoint | if length == 1 then .[0] else error("not one argument") end')
tar -C "$root" -xf "$work/$layer"
[ -z "$(find "$root" -perm /6000)" ] || fail "the image contains a setuid or setgid file"
[ ! -e "$root/bin/sh" ] || fail "the image contains a shell"

# The outer namespace can mount. The inner one runs as the user of the image, without any capabilities.
inside() {
	env -i unshare --user --map-root-user --mount -- bash -euc '
		root=$1 uid=$2 gid=$3
		shift 3
		mount --bind "$root" "$root"
		mount -o remount,bind,ro "$root"
		exec unshare --user --map-user="$uid" --map-group="$gid" --root="$root" --wd=/ -- "$@"
	' - "$root" "$uid" "$gid" "$entrypoint" "$@"
}

version=$(inside --version)
[[ $(inside serve --help) == *ROLLCALL_IDENTITY* ]] || fail "serve --help does not list ROLLCALL_IDENTITY"
[[ $(inside crds) == *"kind: CustomResourceDefinition"* ]] || fail "crds does not print a definition"
if answer=$(inside dev --help 2>&1); then
	fail "the image has the subcommand dev: build it with --no-default-features"
fi
[[ $answer == *"unrecognized subcommand"* ]] || fail "unexpected answer of dev --help: $answer"
if answer=$(inside crds --out /elsewhere 2>&1); then
	fail "the process could write to its root file system"
fi
# The process must get far enough to need the Kubernetes API, which does not exist here.
if answer=$(inside serve --identity check --auth none 2>&1); then
	fail "serve runs without a Kubernetes API"
fi
[[ $answer == *"found no Kubernetes API"* ]] || fail "unexpected answer of serve: $answer"

echo "$1: $version, as $user, from $(find "$root" -type f | wc -l) files of $(du --apparent-size -sh "$root" | cut -f 1)"
