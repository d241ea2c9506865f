#!/usr/bin/env bash
# Collects the files of the image:
#
#     deploy/image/rootfs.sh BINARY DIR
#
# creates DIR, which must not exist, with the binary, its shared libraries where the loader expects them, and the licence. There
# are no CA certificates, because rollcall connects only to the Kubernetes API, whose CA comes with the ServiceAccount. There is
# no shell, no list of users and no /tmp, because rollcall writes no files.
set -euo pipefail
binary=$1 root=$2
mkdir "$root"

# Keep function names for backtraces. Strip the line tables, which are five sixths of the file.
install -D -m 0755 "$binary" "$root/usr/bin/rollcall"
strip --strip-debug "$root/usr/bin/rollcall"

# ldd fails for a static binary, which has no shared libraries.
if libraries=$(ldd "$binary" 2>/dev/null); then
	case $libraries in *"not found"*) echo "rootfs: a shared library of $binary is missing: $libraries" >&2; exit 1 ;; esac
	grep -o '/[^ ]*' <<<"$libraries" | xargs cp --dereference --parents --target-directory "$root"
fi

install -D -m 0644 "$(dirname "$0")/../../LICENSE" "$root/usr/share/doc/rollcall/LICENSE"
