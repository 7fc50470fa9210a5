#!/usr/bin/env bash
# Makes the images by ko, without Docker.
#
#   install/images.sh push REGISTRY [FLAG…]   for linux/amd64 and linux/arm64, to REGISTRY/guildhall-frontend and so on; prints
#                                             values for the chart: the registry, and each image by its digest.
#   install/images.sh archive FOLDER [FLAG…]  for this machine's kind of processor, to FOLDER/guildhall-frontend.tar and so on,
#                                             for `minikube image load` and `kind load image-archive`.
#
# FLAGs go to `ko build`. VERSION (v0.2.0) is what the programs tell as theirs and the images are tagged with; without it, the
# programs tell the checkout's and the tag is the chart's appVersion. SBOMS is a folder for the bills of materials, which are
# pushed in any case; REFERENCES is a file for the images' names with their digests, one a line. KO is the program, if it is not
# this version of it. It is no tool of go.tools.mod, for it and golangci-lint want different versions of the same things.
set -euo pipefail

[ $# -ge 2 ] && [[ $1 = push || $1 = archive ]] || { sed -n '4,7s/^# *//p' "$0" >&2; exit 2; }
what=$1 target=$2
shift 2

cd "$(dirname "$0")/.."
version=${VERSION:-v$(sed -n 's/^appVersion: *//p' install/chart/Chart.yaml)}
flags=(--bare --tags "${version#v}" --ldflags=-s --ldflags=-w)
[ -z "${VERSION:-}" ] || flags+=("--ldflags=-X=github.com/guildhall-dev/guildhall/internal/process.release=$version")

# build NAME FLAG… makes the image of cmd/NAME and prints its reference.
build() {
  local name=$1
  shift
  ${KO:-go run github.com/google/ko@v0.19.1} build "${flags[@]}" "$@" "./cmd/$name"
}

# image NAME is the image's name in the chart.
image() { [ "$1" = guildhall ] && echo guildhall || echo "guildhall-$1"; }

programs=(frontend director matchfunction roomserver guildhall)

# part NAME is what the chart's values call it.
part() { case $1 in roomserver) echo fleet ;; guildhall) echo tests ;; *) echo "$1" ;; esac; }

case $what in
push)
  [ -z "${REFERENCES:-}" ] || : >"$REFERENCES"
  [ -z "${SBOMS:-}" ] || { mkdir -p "$SBOMS" && flags+=("--sbom-dir=$SBOMS"); }
  values="image: {registry: $target, requireDigest: true}"
  for name in "${programs[@]}"; do
    reference=$(KO_DOCKER_REPO=$target/$(image "$name") build "$name" --platform=linux/amd64,linux/arm64 "$@")
    [ -z "${REFERENCES:-}" ] || echo "$target/$(image "$name")@${reference##*@}" >>"$REFERENCES"
    values+=$'\n'"$(part "$name"): {image: {digest: \"${reference##*@}\"}}"
  done
  echo "$values" # all of them or nothing
  ;;
archive)
  mkdir -p "$target"
  for name in "${programs[@]}"; do
    KO_DOCKER_REPO=$(image "$name") build "$name" --push=false --sbom=none --platform="linux/$(go env GOARCH)" \
      --tarball="$target/$(image "$name").tar" "$@"
  done
  ;;
esac
