#!/usr/bin/env bash
# Prints what CHANGELOG.md says of a version: .github/release-notes.sh v0.2.0
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: $0 VERSION" >&2; exit 2; }
cd "$(dirname "$0")/.."
notes=$(awk -v heading="## [${1#v}]" '
  /^## /  { inside = index($0, heading) == 1; next }
  /^\[.*\]: / { next } # where versions link to
  inside  { print }' CHANGELOG.md)
[ -n "${notes//[[:space:]]/}" ] || { echo "CHANGELOG.md has no section ## [${1#v}], or it is empty: write what changed" >&2; exit 1; }
printf '%s\n' "$notes" | sed '/./,$!d'
