#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# Removes what make deploy installed. DatabaseCredentials go first and by hand: their finalizer needs the operator, and
# their deletionPolicy decides whether logins are dropped.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/bin:$PATH"

kubectl="${KUBECTL:-kubectl}"
left="$("$kubectl" get databasecredentials.rekey.dev --all-namespaces --ignore-not-found \
  -o 'jsonpath={range .items[*]}{.metadata.namespace}/{.metadata.name}{"\n"}{end}' 2>/dev/null || true)"
if [ -n "$left" ]; then
  echo "These still exist, and need the operator to go:" >&2
  sed 's/^/  /' <<<"$left" >&2
  echo "Delete them first: kubectl delete databasecredentials --all --all-namespaces" >&2
  exit 1
fi
# The operator first: it would see its roles and authorities vanish, and warn of it.
"$kubectl" --namespace rekey-system delete deployment rekey --ignore-not-found --cascade=foreground --timeout=2m
kustomize build config/default | "$kubectl" delete --ignore-not-found --timeout=5m -f -
