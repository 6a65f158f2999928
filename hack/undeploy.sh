#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# Removes what make deploy installed. Users delete DatabaseCredentials first: their finalizer needs the operator, and their
# deletionPolicy decides whether logins are dropped.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/bin:$PATH"

kubectl="${KUBECTL:-kubectl}"
# present lists the objects of a kind, or none if the kind is not installed. It fails if it cannot find out.
present() {
  [ -n "$("$kubectl" get crd "$1" --ignore-not-found -o name)" ] || return 0
  "$kubectl" get "$1" --all-namespaces --ignore-not-found -o "jsonpath=$2"
}
left="$(present databasecredentials.rekey.dev '{range .items[*]}{.metadata.namespace}/{.metadata.name}{"\n"}{end}')"
if [ -n "$left" ]; then
  echo "These DatabaseCredentials still exist, and only the operator can remove their finalizers:" >&2
  sed 's/^/  /' <<<"$left" >&2
  echo "Delete them first: kubectl delete databasecredentials --all --all-namespaces" >&2
  exit 1
fi
keys="$(present clustercertificateauthorities.rekey.dev '{range .items[?(@.spec.managed)]}{.metadata.name} (Secret {.spec.managed.secretName}{.spec.secretName}){"\n"}{end}')"
if [ -n "$keys" ] && [ "${FORCE:-}" != 1 ]; then
  echo "The private keys of these authorities are in rekey-system and would be deleted with it. They cannot be recovered:" >&2
  sed 's/^/  /' <<<"$keys" >&2
  echo "Back up the Secrets or delete the authorities, or run this again with FORCE=1" >&2
  exit 1
fi
# The operator first: otherwise it would warn that its roles and authorities disappear.
"$kubectl" --namespace rekey-system delete deployment rekey --ignore-not-found --cascade=foreground --timeout=2m
kustomize build config/default | "$kubectl" delete --ignore-not-found --timeout=5m -f -
