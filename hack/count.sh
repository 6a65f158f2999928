#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# Counts the results in files written by `go test -json` and prints "PASSED FAILED SKIPPED". Subtests count. A package that
# failed although none of its tests did (it does not build, or it timed out) counts as one failure.
set -euo pipefail

[ "$#" -gt 0 ] || { echo "0 0 0"; exit 0; }
cat "$@" | awk '
  function field(name,   value) {
    if (!match($0, "\"" name "\":\"[^\"]*\"")) return ""
    value = substr($0, RSTART, RLENGTH)
    return substr(value, length(name) + 5, length(value) - length(name) - 5)
  }
  /"Action":"(pass|fail|skip)"/ {
    action = field("Action"); package = field("Package")
    if ($0 ~ /"Test":"/) { count[action]++; if (action == "fail") broken[package] = 1 }
    else if (action == "fail") failed[package] = 1
  }
  END {
    for (package in failed) if (!(package in broken)) count["fail"]++
    printf "%d %d %d\n", count["pass"], count["fail"], count["skip"]
  }'
