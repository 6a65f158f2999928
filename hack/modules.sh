#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# Prints the folder of every Go module of this repository; with --own only those with our code.
set -euo pipefail
cd "$(dirname "$0")/.."

git ls-files --cached --others --exclude-standard -- go.mod '*/go.mod' | sort -u | while read -r file; do
  [ -f "$file" ] || continue
  dir="$(dirname "$file")"
  if [ "${1:-}" = --own ] && [[ "$dir" == hack/tools* ]]; then continue; fi
  echo "$dir"
done
