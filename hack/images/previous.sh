#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: previous.sh KO DIR [COMMIT]
#
# Builds the images of an earlier commit, by its own build.sh, into DIR, and copies its charts to DIR/charts: what a user upgrades
# from. Without COMMIT it is the last one, or the one before that where nothing has changed since.
set -euo pipefail
mkdir -p "$2"
ko=$(realpath "$1") out=$(cd "$2" && pwd)
cd "$(dirname "$0")/../.."
commit=${3:-HEAD}
if [ $# -lt 3 ] && git diff --quiet HEAD && git rev-parse --quiet --verify HEAD~1 >/dev/null; then # a shallow clone has no HEAD~1
	commit=HEAD~1
fi
commit=$(git rev-parse --short "$commit")

tree=$(mktemp -d)
trap 'git worktree remove --force "$tree"' EXIT
git worktree add --quiet --detach "$tree" "$commit"
"$tree/hack/images/build.sh" "$ko" "$commit-previous" "$out"
rm -rf "$out/charts"
cp -r "$tree/charts" "$out/charts"
echo "built the images and charts of $commit"
