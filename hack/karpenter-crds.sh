#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: karpenter-crds.sh DIR
#
# Writes Karpenter's custom resource definitions, as the version of karpenter-provider-aws in go.mod ships them, into DIR
# as templates of the chart, and makes templates of Dovetail's own, which are there.
set -euo pipefail
from=$(go list -m -f '{{.Dir}}' github.com/aws/karpenter-provider-aws)/pkg/apis/crds

# kept says in the metadata that Helm keeps the definition. In comments, so that a file without other templates in it stays YAML.
kept() {
	sed '0,/^  annotations:$/s//&\n    # {{ if .Values.keep }}\n    helm.sh\/resource-policy: keep\n    # {{ end }}/' "$1"
}
for crd in "$from"/*.yaml; do
	{
		echo '{{- if .Values.karpenter }}'
		kept "$crd"
		echo '{{- end }}'
	} >"$1/$(basename "$crd")"
done
for crd in "$1"/dovetail.dev_*.yaml; do
	kept "$crd" >"$crd.new"
	mv "$crd.new" "$crd"
done
