#!/usr/bin/env bash
# What Skaffold wants to be there before it installs: the namespaces of install/values/agones.yaml, and a pass key for
# development, which stays as it is once it is there. For a cluster that nobody depends on.
set -euo pipefail

kubectl() { command kubectl ${SKAFFOLD_KUBE_CONTEXT:+--context "$SKAFFOLD_KUBE_CONTEXT"} "$@"; }

for namespace in guildhall guildhall-rooms; do
  kubectl get namespace "$namespace" >/dev/null 2>&1 || kubectl create namespace "$namespace"
done
if kubectl --namespace guildhall get secret guildhall-pass-key guildhall-pass-keys >/dev/null 2>&1; then
  exit
fi
folder=$(mktemp -d)
trap 'rm -r "$folder"' EXIT
openssl genpkey -algorithm ed25519 -out "$folder/pass.pem"
openssl pkey -in "$folder/pass.pem" -pubout -out "$folder/pass-keys.pem"
# Both or neither: a host with another key than the frontend's admits nobody.
for secret in guildhall-pass-key:pass.pem guildhall-pass-keys:pass-keys.pem; do
  kubectl --namespace guildhall delete secret "${secret%:*}" --ignore-not-found
  kubectl --namespace guildhall create secret generic "${secret%:*}" --from-file="$folder/${secret#*:}"
done
