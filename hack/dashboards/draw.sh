#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Draws the chart's dashboards into docs/dashboards, as Grafana would show a run of the demo: draw.sh [SCRAPES]. With a folder of scrapes (one
# that it kept in bin/dashboards) it runs no demo. Needs root or user namespaces, what `make build controlplane` makes, and Debian's packages
# nodejs, npm, chromium, pngquant and fonts-inter. Ten minutes, two of them with SCRAPES; half a gigabyte of npm's packages while it draws, nothing of it stays.
set -euo pipefail
cd "$(dirname "$0")/../.."

scrapes=${1:-bin/dashboards/$(date +%s)}
if [ $# -eq 0 ]; then
	go run ./hack/dashboards record -out "$scrapes"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp hack/dashboards/{package.json,package-lock.json,page.jsx,draw.mjs} "$work"
npm ci --prefix "$work" --ignore-scripts --no-audit --no-fund
go run ./hack/dashboards evaluate -scrapes "$scrapes" >"$work/dashboards.json"
node "$work/draw.mjs" "$work/dashboards.json" docs/dashboards
ls -l docs/dashboards
