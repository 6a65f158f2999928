#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# Removes what make deploy installed. DatabaseCredentials go first and by hand: their finalizer needs the operator, and
# their deletionPolicy decides whether logins are dropped.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/bin:$PATH"

kubectl="${KUBECTL:-kubectl}"
# present lists the objects of a kind, none where the kind itself is not there. Not being able to tell is an error.
present() {
  [ -n "$("$kubectl" get crd "$1" --ignore-not-found -o name)" ] || return 0
  "$kubectl" get "$1" --all-namespaces --ignore-not-found -o "jsonpath=$2"
}
left="$(present databasecredentials.rekey.dev '{range .items[*]}{.metadata.namespace}/{.metadata.name}{"\n"}{end}')"
if [ -n "$left" ]; then
  echo "These still exist, and need the operator to go:" >&2
  sed 's/^/  /' <<<"$left" >&2
  echo "Delete them first: kubectl delete databasecredentials --all --all-namespaces" >&2
  exit 1
fi
keys="$(present clustercertificateauthorities.rekey.dev '{range .items[?(@.spec.managed)]}{.metadata.name} (Secret {.spec.secretName}){"\n"}{end}')"
if [ -n "$keys" ] && [ "${FORCE:-}" != 1 ]; then
  echo "The keys of these authorities lie in rekey-system and would be deleted with it. Nobody can make them again:" >&2
  sed 's/^/  /' <<<"$keys" >&2
  echo "Back the Secrets up or delete the authorities, or run again with FORCE=1" >&2
  exit 1
fi
# The operator first: it would see its roles and authorities vanish, and warn of it.
"$kubectl" --namespace rekey-system delete deployment rekey --ignore-not-found --cascade=foreground --timeout=2m
kustomize build config/default | "$kubectl" delete --ignore-not-found --timeout=5m -f -
