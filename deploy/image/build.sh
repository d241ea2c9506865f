#!/usr/bin/env bash
# Builds the image as a file, without a container engine:
#
#     deploy/image/build.sh [--binary FILE] [--tag NAME:TAG] OUT.tar
#
# OUT.tar is a docker-archive. To load it where it runs:
#
#     docker load -i OUT.tar
#     kind load image-archive OUT.tar
#     ctr -n k8s.io images import OUT.tar        # on the node
#
# Without --binary it builds the binary (6 to 8 minutes on two cores). A given binary must have the architecture of this machine.
# The same binary always results in the same file, byte for byte.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$here/../..

fail() {
	echo "image: $*" >&2
	exit 1
}
usage="usage: deploy/image/build.sh [--binary FILE] [--tag NAME:TAG] OUT.tar"

binary=
tag=
while [ $# -gt 1 ]; do
	case $1 in
	--binary) binary=$2 ;;
	--tag) tag=$2 ;;
	*) fail "$usage" ;;
	esac
	shift 2
done
[ $# -eq 1 ] && [ "${1#-}" = "$1" ] || fail "$usage"
out=$1

version=$(sed -n 's/^version = "\(.*\)"$/\1/p' "$repository/Cargo.toml" | head -n 1)
tag=${tag:-rollcall:$version}
case $(uname -m) in
x86_64) architecture=amd64 ;;
aarch64) architecture=arm64 ;;
*) fail "cannot build an image on $(uname -m): use x86_64 or aarch64" ;;
esac

# Prints the value of an instruction in the last stage of the Dockerfile.
instruction() {
	local value
	value=$(sed -n '/^FROM scratch/,$s/^'"$1"' //p' "$repository/Dockerfile")
	[ -n "$value" ] || fail "the Dockerfile has no $1 after FROM scratch"
	echo "$value"
}
user=$(instruction USER)
entrypoint=$(instruction ENTRYPOINT)
ports=$(instruction EXPOSE | tr ' ' '\n' | sed 's/.*/"&": {}/' | paste -sd,)

if [ -z "$binary" ]; then
	cargo build --manifest-path "$repository/Cargo.toml" --release --locked --no-default-features
	binary=${CARGO_TARGET_DIR:-$repository/target}/release/rollcall
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$here/rootfs.sh" "$binary" "$work/root"
tar -C "$work/root" --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$work/layer.tar" .
layer=$(sha256sum "$work/layer.tar" | cut -d ' ' -f 1)
cat >"$work/config.json" <<JSON
{
  "created": "1970-01-01T00:00:00Z",
  "architecture": "$architecture",
  "os": "linux",
  "config": {"User": "$user", "Entrypoint": $entrypoint, "ExposedPorts": {$ports}, "WorkingDir": "/"},
  "rootfs": {"type": "layers", "diff_ids": ["sha256:$layer"]}
}
JSON
cat >"$work/manifest.json" <<JSON
[{"Config": "config.json", "RepoTags": ["$tag"], "Layers": ["layer.tar"]}]
JSON
tar -C "$work" --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=0644 -cf "$work/image.tar" \
	manifest.json config.json layer.tar
mv "$work/image.tar" "$out"
echo "$out: $tag for linux/$architecture, $(stat -c %s "$out") bytes"
