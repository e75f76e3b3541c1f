#!/usr/bin/env bash
# Runs each fuzz target for a while: hack/fuzz.sh TIME FOLDER... . What it finds stays in the package's testdata/fuzz, and is
# a test from then on. An input that reaches new code is made shorter for a second, not for the minute that go test takes by default: where
# inputs are whole manifests, nothing else would happen.
set -euo pipefail
cd "$(dirname "$0")/.."
time=$1
shift

grep -rnE '^func Fuzz' --include='*_test.go' "$@" | sed -E 's|^(.*)/[^/]*:[0-9]+:func (Fuzz[A-Za-z0-9_]*).*|\1 \2|' | sort |
  while read -r folder target; do
    echo "$folder $target"
    go test -vet=off "./$folder" -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 1s </dev/null
  done
