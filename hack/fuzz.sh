#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# hack/fuzz.sh TIME: tries every fuzz target of the root module for TIME, one after the other. What breaks one is kept by
# Go under testdata/fuzz beside the test, and is from then on a case of make test.
set -euo pipefail
cd "$(dirname "$0")/.."

time="${1:-30s}"
status=0
while IFS=: read -r file target; do
  package="./$(dirname "$file")"
  echo "== $target in $package for $time"
  go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" "$package" || status=1
done < <(git ls-files --cached --others --exclude-standard '*_test.go' |
  xargs grep -HoE '^func Fuzz[A-Za-z0-9_]*' | sed 's/func //' | grep -v '^hack/localcluster/')
exit "$status"
