#!/usr/bin/env bash
# Fetches prometheus and promtool of Debian's package into a folder, unless they are there. The package is unpacked and not
# installed: that would start a service. Building promtool from its Go module instead takes some seven minutes on two cores
# that have other work, and downloads more.
set -euo pipefail
folder=$(realpath -m "${1:?the folder to put prometheus and promtool in}")
[[ -x $folder/prometheus && -x $folder/promtool ]] && exit
command -v apt-get >/dev/null || {
	echo "no apt-get here: put prometheus and promtool (2.42 or later) into $folder yourself" >&2
	exit 1
}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
chmod 755 "$scratch"
cd "$scratch"
apt-get download -qq prometheus 2>/dev/null || { apt-get update -qq && apt-get download -qq prometheus; }
dpkg -x prometheus_*.deb .
mkdir -p "$folder"
mv usr/bin/prometheus usr/bin/promtool "$folder"
