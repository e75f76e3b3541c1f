#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: packages.sh DIR
#
# Unpacks Debian's containerd and runc, the reference CNI plugins and the tools that kube-proxy calls into DIR. Nothing is
# installed: the sandbox lays DIR/usr over the /usr of its instances. Packages that the host has already are not fetched.
set -euo pipefail
readonly packages="containerd runc containernetworking-plugins iptables nftables conntrack ipset kmod ethtool"
mkdir -p "$1"
out=$(cd "$1" && pwd)
archives=$(mktemp -d)
trap 'rm -rf "$archives"' EXIT
mkdir "$archives/partial"
chmod 755 "$archives"

command -v apt-get >/dev/null || { echo "real kubelets need Debian's packages: $packages" >&2; exit 1; }
fetch() {
	# shellcheck disable=SC2086 # a list
	apt-get install -y -qq --no-install-recommends --download-only -o Dir::Cache::archives="$archives" -o Debug::NoLocking=1 $packages
}
fetch 2>/dev/null || { apt-get update -qq && fetch; } # where the package lists are old or missing
for archive in "$archives"/*.deb; do
	[ -e "$archive" ] && dpkg-deb -x "$archive" "$out"
done

# What dpkg would have asked update-alternatives for.
if [ -e "$out/usr/sbin/xtables-nft-multi" ]; then
	for name in iptables iptables-save iptables-restore ip6tables ip6tables-save ip6tables-restore; do
		ln -sf xtables-nft-multi "$out/usr/sbin/$name"
	done
fi
# Old packages have files outside /usr.
for dir in bin sbin lib; do
	if [ -d "$out/$dir" ]; then
		cp -a "$out/$dir/." "$out/usr/$dir/" && rm -r "${out:?}/$dir"
	fi
done
# The directory must be there even if the host had everything, containerd included.
mkdir -p "$out/usr/bin"
touch "$out"
