#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: build.sh DIR controlplane|node
#
# Builds etcd, kube-apiserver, kube-controller-manager, kube-scheduler and the portmap plugin into DIR, or kubelet and
# kube-proxy: about five minutes with empty caches for the first, less than one more for the second.
set -euo pipefail
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"

# Clients decide on features by the version that the API server reports, and it only knows its version from the linker.
kubernetes=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
minor=${kubernetes#v1.}
stamp="-X k8s.io/component-base/version.gitVersion=$kubernetes
	-X k8s.io/component-base/version.gitMajor=1
	-X k8s.io/component-base/version.gitMinor=${minor%%.*}"

export CGO_ENABLED=0
case ${2:-} in
controlplane)
	go build -trimpath -ldflags "-s -w $stamp" -o "$out/" \
		k8s.io/kubernetes/cmd/kube-apiserver \
		k8s.io/kubernetes/cmd/kube-controller-manager \
		k8s.io/kubernetes/cmd/kube-scheduler
	go build -trimpath -ldflags '-s -w' -o "$out/etcd" go.etcd.io/etcd/server/v3
	go build -trimpath -ldflags '-s -w' -o "$out/portmap" github.com/containernetworking/plugins/plugins/meta/portmap
	;;
node)
	go build -trimpath -ldflags "-s -w $stamp" -o "$out/" k8s.io/kubernetes/cmd/kubelet k8s.io/kubernetes/cmd/kube-proxy k8s.io/kubernetes/cmd/kubectl
	;;
*)
	echo "usage: $0 DIR controlplane|node" >&2
	exit 2
	;;
esac
