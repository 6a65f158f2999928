#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# Runs golangci-lint over every module with our code, then kube-api-linter over the kinds.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/bin:$PATH"

root="$PWD"
status=0
while read -r module; do
  echo "== golangci-lint in $module"
  (cd "$module" && golangci-lint run --config "$root/.golangci.yml" ./...) || status=1
done < <(hack/modules.sh --own)
echo "== kube-api-linter"
golangci-lint run --config .golangci-kal.yml ./api/... || status=1
exit "$status"
