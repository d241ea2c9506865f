#!/usr/bin/env bash
# The files of the image:
#
#     deploy/image/rootfs.sh BINARY FOLDER
#
# fills FOLDER, which must not be there yet, with the binary, its shared libraries where its loader looks for them, and the
# licence. No CA certificates: rollcall speaks to the Kubernetes API only, whose CA comes with the ServiceAccount. No shell,
# no users, no /tmp: it writes no files.
set -euo pipefail
binary=$1 root=$2
mkdir "$root"

# Function names stay, for what a crash says; the tables of lines, five sixths of the file, do not.
install -D -m 0755 "$binary" "$root/usr/bin/rollcall"
strip --strip-debug "$root/usr/bin/rollcall"

# A static one has none, and then ldd fails.
if libraries=$(ldd "$binary" 2>/dev/null); then
	case $libraries in *"not found"*) echo "rootfs: $binary lacks a library: $libraries" >&2; exit 1 ;; esac
	grep -o '/[^ ]*' <<<"$libraries" | xargs cp --dereference --parents --target-directory "$root"
fi

install -D -m 0644 "$(dirname "$0")/../../LICENSE" "$root/usr/share/doc/rollcall/LICENSE"
