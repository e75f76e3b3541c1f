#!/usr/bin/env bash
# Runs every test with the race detector: first all packages but the end-to-end tests, then that on stand-ins alone, because
# it starts a whole cluster and wants the machine for itself. Those on real kubelets and with clients of others need more: see
# make e2e and make test-clients. Needs root or a kernel that grants user namespaces: tests that touch the kernel do so in
# network namespaces of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
export CGO_ENABLED=1 # the race detector needs it

if ! command -v gcc >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev
  else
    echo "the race detector needs a C compiler: apt-get install gcc libc6-dev" >&2
    exit 1
  fi
fi

mapfile -t packages < <(go list ./... | grep -vE '/test/(e2e|install|clients|benchnode)$')
# shellcheck disable=SC2086 # TEST_FLAGS is a list of flags
go test -race -count=1 -timeout 20m ${TEST_FLAGS:-} "${packages[@]}"
# shellcheck disable=SC2086
go test -race -count=1 -timeout 20m ${TEST_FLAGS:-} ./test/e2e
# What a node reads from others, for seconds; make fuzz takes longer.
CGO_ENABLED=0 hack/fuzz.sh 3s pkg/agent pkg/cni
