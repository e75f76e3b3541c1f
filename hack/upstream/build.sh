#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: build.sh DIR
#
# Builds the controller of karpenter-provider-aws, unmodified, into DIR/upstream-controller, and copies the charts that come with
# it to DIR/upstream-charts.
set -euo pipefail
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"

readonly module=github.com/aws/karpenter-provider-aws
version=$(go list -m -f '{{.Version}}' "$module")
CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X sigs.k8s.io/karpenter/pkg/operator.Version=${version#v}" \
	-o "$out/upstream-controller" "$module/cmd/controller"

# Files of the module cache are read-only.
rm -rf "$out/upstream-charts"
mkdir "$out/upstream-charts"
charts=$(go list -m -f '{{.Dir}}' "$module")/charts
cp -r "$charts/karpenter" "$charts/karpenter-crd" "$out/upstream-charts/"
chmod -R u+w "$out/upstream-charts"
