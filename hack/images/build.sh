#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: build.sh KO TAG DIR
#
# Builds the images of our programs for the sandbox, with ko as releases do, into DIR/images.tar, and that of pods' sandboxes
# into DIR/pause.tar, and the tag into DIR/tag. Releases have a distroless base;
# here no registry may be at hand, so the base is an empty image that is made in place and named by its digest, which is
# how ko finds it in its cache.
set -euo pipefail
mkdir -p "$3"
ko=$1 tag=$2 out=$(cd "$3" && pwd)
cd "$(dirname "$0")/../.."
cache=$(mktemp -d)
trap 'rm -rf "$cache"' EXIT

base=$(go run ./hack/images/base "$cache/img")
export KOCACHE=$cache KO_DEFAULTBASEIMAGE=base.invalid/empty@$base VERSION=$tag CGO_ENABLED=0

build() { # build REPOSITORY ARCHIVE KO-ARG...
	KO_DOCKER_REPO=$1 "$ko" build --push=false --sbom=none --platform="linux/$(go env GOARCH)" --tarball="$2.new" "${@:3}" >/dev/null
	mv "$2.new" "$2"
}
build sandbox.invalid/dovetail "$out/images.tar" --base-import-paths --tags="$tag" ./cmd/controller ./cmd/agent ./cmd/cni ./test/netprobe
build registry.k8s.io/pause "$out/pause.tar" --bare --tags=3.10 ./hack/images/pause # the name that containerd is configured with
echo "$tag" >"$out/tag"
