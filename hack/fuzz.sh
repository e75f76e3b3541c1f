#!/usr/bin/env bash
# Runs each fuzz target for a while: hack/fuzz.sh TIME FOLDER... . What it finds stays in the package's testdata/fuzz, and is
# a test from then on.
set -euo pipefail
cd "$(dirname "$0")/.."
time=$1
shift

grep -rnE '^func Fuzz' --include='*_test.go' "$@" | sed -E 's|^(.*)/[^/]*:[0-9]+:func (Fuzz[A-Za-z0-9_]*).*|\1 \2|' | sort |
  while read -r folder target; do
    echo "$folder $target"
    go test -vet=off "./$folder" -run '^$' -fuzz "^$target\$" -fuzztime "$time" </dev/null
  done
