#!/usr/bin/env bash
# Whether an image of deploy/image/build.sh starts on its own:
#
#     deploy/image/check.sh IMAGE.tar
#
# unpacks it, and runs its entry point as its user, with its files as a read-only root and nothing else: no /proc, no
# devices, no rights. It needs root, or a kernel that gives everybody user namespaces, and jq.
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
# Of a JSON file, one value.
of() {
	jq --exit-status --raw-output "$2" "$work/$1"
}

config=$(of manifest.json '.[0].Config')
layer=$(of manifest.json '.[0].Layers | if length == 1 then .[0] else error("not one layer") end')
[ "sha256:$(sha256sum "$work/$layer" | cut -d ' ' -f 1)" = "$(of "$config" '.rootfs.diff_ids[0]')" ] ||
	fail "the layer is not the one that its configuration names"
user=$(of "$config" .config.User)
[[ $user =~ ^([1-9][0-9]*):([1-9][0-9]*)$ ]] ||
	fail "the user is $user: runAsNonRoot needs numbers, and none of them 0"
uid=${BASH_REMATCH[1]} gid=${BASH_REMATCH[2]}
entrypoint=$(of "$config" '.config.Entrypoint | if length == 1 then .[0] else error("not one word") end')
tar -C "$root" -xf "$work/$layer"
[ -z "$(find "$root" -perm /6000)" ] || fail "there is a file that gives rights away (setuid or setgid)"
[ ! -e "$root/bin/sh" ] || fail "there is a shell"

# The outer namespace may mount; the inner one has the image's user, and with it no rights at all.
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
[[ $(inside serve --help) == *ROLLCALL_IDENTITY* ]] || fail "serve --help does not say ROLLCALL_IDENTITY"
[[ $(inside crds) == *"kind: CustomResourceDefinition"* ]] || fail "crds prints no definition"
if answer=$(inside dev --help 2>&1); then
	fail "it has the subcommand dev: build it with --no-default-features"
fi
[[ $answer == *"unrecognized subcommand"* ]] || fail "dev --help says: $answer"
if answer=$(inside crds --out /elsewhere 2>&1); then
	fail "it could write into its root"
fi
# Far enough into its start to need the Kubernetes API, which is not here.
if answer=$(inside serve --identity check --auth none 2>&1); then
	fail "it serves without a Kubernetes API"
fi
[[ $answer == *"found no Kubernetes API"* ]] || fail "serve says: $answer"

echo "$1: $version, as $user, from $(find "$root" -type f | wc -l) files of $(du --apparent-size -sh "$root" | cut -f 1)"
