#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Checks the sandbox with clients that nobody here wrote. Debian's packages are installed where they are missing, which needs root.
set -euo pipefail
cd "$(dirname "$0")/.."
# The plugins are the network of nodes that upstream Karpenter launches.
readonly packages="awscli python3-botocore containernetworking-plugins"

missing=()
for package in $packages; do
	[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
	if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
		echo "packages are missing: as root, apt-get install ${missing[*]}" >&2
		exit 1
	fi
	export DEBIAN_FRONTEND=noninteractive
	apt-get update -qq && apt-get install -y -qq --no-install-recommends "${missing[@]}"
fi

# shellcheck disable=SC2086 # TEST_FLAGS is a list of flags
go test -count=1 -timeout 30m ${TEST_FLAGS:-} ./test/clients
