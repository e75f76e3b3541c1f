#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: karpenter-crds.sh DIR
#
# Writes Karpenter's custom resource definitions, as the version of karpenter-provider-aws in go.mod ships them, into DIR
# as templates of the chart.
set -euo pipefail
from=$(go list -m -f '{{.Dir}}' github.com/aws/karpenter-provider-aws)/pkg/apis/crds
for crd in "$from"/*.yaml; do
	{
		echo '{{- if .Values.karpenter }}'
		cat "$crd"
		echo '{{- end }}'
	} >"$1/$(basename "$crd")"
done
