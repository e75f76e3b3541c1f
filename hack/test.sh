#!/usr/bin/env bash
# Runs every test with the race detector: the end-to-end tests on stand-ins, and beside them all other packages. Those on real kubelets and
# with clients of others need more: see make e2e and make test-clients. Needs root or a kernel that grants user namespaces: tests that
# touch the kernel do so in network namespaces of their own.
set -euo pipefail
cd "$(dirname "$0")/.."
logs=$(mktemp -d)
e2e=
cleanup() {
  [ -z "$e2e" ] || kill -- -"$e2e" 2>/dev/null || true # it has ended
  rm -rf "$logs"
}
trap cleanup EXIT
export CGO_ENABLED=1 # the race detector needs it
GOFLAGS=${GOFLAGS:-}
export GOFLAGS=${GOFLAGS//-trimpath/} # a plain `go test -race` shares what this compiles

if ! command -v gcc >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    apt-get update -qq && apt-get install -y -qq --no-install-recommends gcc libc6-dev
  else
    echo "the race detector needs a C compiler: apt-get install gcc libc6-dev" >&2
    exit 1
  fi
fi

# GOGC is the compilers': tests run as programs do. The linters vet, tests too.
# shellcheck disable=SC2206 # TEST_FLAGS is a list of flags
flags=(-race -vet=off -count=1 -exec 'env -u GOGC' ${TEST_FLAGS:-})
# Package plugin, which Helm's engine brings along, would let gcc link: a third more processor time for each of those binaries.
[ "$(go env GOARCH)" != amd64 ] || flags+=(-ldflags=-linkmode=internal)

# The cluster of the end-to-end tests mostly waits, for minutes on end: all others have what it leaves of the machine. What it is made of is
# compiled before, since two commands would both compile what both need.
go test "${flags[@]}" -exec true ./test/e2e >/dev/null
set -m # a process group of its own
go test "${flags[@]}" -timeout 40m ./test/e2e >"$logs/e2e" 2>&1 &
e2e=$!
set +m

# Tests wait for a kernel, an API server or a clock half of their time: two packages a processor. Those that take longest begin, of them
# those that wait most: what others need is compiled meanwhile.
slow='pkg/sandbox/vpc test/node pkg/rehearsal cmd/dovetail pkg/sandbox pkg/cloudprovider pkg/controllers/nodemigration
pkg/controllers/provisioning pkg/launch pkg/sandbox/aws pkg/sandbox/controlplane'
all=$(go list ./... | grep -vE '/test/(e2e|install|clients|benchnode)$')
# shellcheck disable=SC2086 # a list
slow=$(go list $(printf './%s ' $slow))
mapfile -t packages < <(echo "$slow" && grep -vxF "$slow" <<<"$all")
status=0
nice -n 10 go test "${flags[@]}" -timeout 20m -p "$((2 * $(nproc)))" "${packages[@]}" || status=$?

# What a node reads from others is fuzzed for seconds (make fuzz takes longer), most of which goes into compiling it.
CGO_ENABLED=0 GOFLAGS="$GOFLAGS -trimpath" nice -n 19 hack/fuzz.sh 3s pkg/agent pkg/cni || status=$?

wait "$e2e" || status=$?
cat "$logs/e2e"
exit "$status"
