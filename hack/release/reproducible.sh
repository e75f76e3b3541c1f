#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: reproducible.sh KO [FLAG...]
#
# Builds the release of HEAD twice with the flags of hack/release, in folders of different paths, and compares what came out. The
# second build starts with an empty cache, so that it compiles everything again.
set -euo pipefail
ko=$1
shift
cd "$(dirname "$0")/../.."
dir=$(mktemp -d)
trap 'chmod -R u+w "$dir"; rm -rf "$dir"' EXIT
go build -o "$dir/release" ./hack/release
mkdir -p "$dir/one" "$dir/elsewhere/and/deeper"

TMPDIR=$dir/one "$dir/release" -version v0.0.0-reproducible -ko "$ko" -out "$dir/one/dist" "$@"
TMPDIR=$dir/elsewhere/and/deeper GOCACHE=$dir/cache "$dir/release" -version v0.0.0-reproducible -ko "$ko" -out "$dir/other" "$@"
diff -r "$dir/one/dist" "$dir/other"
echo "the two builds are the same:"
cat "$dir/other/SHA256SUMS"
