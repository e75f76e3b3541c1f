#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: vulncheck.sh GOVULNCHECK
#
# Looks for known vulnerabilities in what our programs call. Exit status 0: none; 3: some; 2: the database could not be reached, so
# nothing was checked; 1: anything else. GOVULNDB names another database, as for govulncheck.
set -uo pipefail
cd "$(dirname "$0")/.."
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT

"$1" ${GOVULNDB:+-db "$GOVULNDB"} ./cmd/... 2>"$errors"
status=$?
cat "$errors" >&2
if [ "$status" = 1 ] && grep -q 'fetching vulnerabilities' "$errors"; then
	echo "the vulnerability database cannot be reached: nothing was checked; GOVULNDB names a copy of it" >&2
	exit 2
fi
exit "$status"
