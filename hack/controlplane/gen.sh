#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Writes go.mod and go.sum of this module: the programs of a Kubernetes control plane at one version each.
#
# It is a module of its own because k8s.io/kubernetes asks its importers to replace every staging module, and those
# replacements must not decide the versions that Dovetail itself is built with. Run it to move to another version.
set -euo pipefail
export LC_ALL=C # join's order
cd "$(dirname "$0")"

readonly kubernetes=1.35.4 etcd=3.6.5 cni_plugins=1.9.1 go=1.26

# The staging modules of k8s.io/kubernetes (its go.mod requires them at v0.0.0), each released as v0.<minor>.<patch>.
readonly staging="api apiextensions-apiserver apimachinery apiserver cli-runtime client-go cloud-provider
cluster-bootstrap code-generator component-base component-helpers controller-manager cri-api cri-client cri-streaming
csi-translation-lib dynamic-resource-allocation endpointslice externaljwt kms kube-aggregator kube-controller-manager
kube-proxy kube-scheduler kubectl kubelet metrics mount-utils pod-security-admission sample-apiserver sample-cli-plugin
sample-controller"

{
	printf 'module github.com/dovetail-dev/dovetail/hack/controlplane\n\ngo %s\n\nreplace (\n' "$go"
	for module in $staging; do
		printf '\tk8s.io/%s => k8s.io/%s v0%s\n' "$module" "$module" "${kubernetes#1}"
	done
	printf ')\n\nrequire (\n'
	printf '\tgithub.com/containernetworking/plugins v%s\n' "$cni_plugins"
	printf '\tgo.etcd.io/etcd/server/v3 v%s\n' "$etcd"
	printf '\tk8s.io/kubernetes v%s\n)\n' "$kubernetes"
} >go.mod
go mod tidy

# What this module requires indirectly and Dovetail's own at a newer version is taken at that version: what both build is then compiled once.
required() { # required DIR LINES prints path@version of what is required there in such lines, but for what is replaced here
	(cd "$1" && go mod edit -print) | grep -E "$2" | awk '$2 != "=>" && $1 ~ /\./ && $2 ~ /^v/ { print $1 "@" $2 }' |
		grep -vF -f <(printf 'k8s.io/%s@\n' $staging) | sort -t @ -k 1,1
}
mapfile -t newer < <(join -t @ <(required . '// indirect') <(required ../.. .) | while IFS=@ read -r path ours theirs; do
	[ "$(printf '%s\n' "$ours" "$theirs" | sort -V | tail -n 1)" = "$ours" ] || echo "$path@$theirs"
done)
go get "${newer[@]}"
go mod tidy
