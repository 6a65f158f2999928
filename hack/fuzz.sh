#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# hack/fuzz.sh TIME [NAME...]: runs every fuzz target of the root module, or only the named ones, for TIME (30s, 5m ...) each,
# one after another. Go keeps a failing input under testdata/fuzz next to the test; from then on it is a case of make test.
# The script prints a table of results, and "N passed, N failed" as its last line.
#
# The corpus of a target is in testdata/fuzz/TARGET next to the test: one file for each input, named by its hash, which plain
# `go test` replays. Go writes only failing inputs there. Inputs that merely reach new code stay in its cache, which is lost
# with the machine: "$(go env GOCACHE)/fuzz/github.com/rekey/rekey/PACKAGE/TARGET". After a long run, copy some of those to
# testdata/fuzz: small ones (below 2 KiB, about twenty for each target, of different lengths), none with a key or certificate.
#
# Each target has one worker: some targets start a server, and one server for each processor would cost more than it gains.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1

time="${1:-30s}"
shift || true
log="$(mktemp)"
trap 'rm -f "$log"' EXIT
rows=()
passed=0
failed=0
again=()

# time_was_over succeeds if the deadline is the only failure: Go reports nothing else and keeps no input.
time_was_over() {
  ! grep -q 'Failing input written to\|panic:' "$log" &&
    [ "$(sed -n '/^--- FAIL: /,/^FAIL$/p' "$log" | sed '1d;$d' | tr -s ' \n' ' ')" = " context deadline exceeded " ]
}

while IFS=: read -r file target; do
  if [ "$#" -gt 0 ] && [[ " $* " != *" $target "* ]]; then continue; fi
  package="./$(dirname "$file")"
  echo "== $target in $package for $time"
  begin="$SECONDS"
  if go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10s -timeout 0 -parallel 1 "$package" >"$log" 2>&1; then
    grep '^ok' "$log"
    result=passed
    passed=$((passed + 1))
  elif time_was_over; then
    result=passed
    passed=$((passed + 1))
    echo "$target: Go's fuzzer reported its deadline as a failure (https://go.dev/issue/75804, fixed in Go 1.27); no input failed"
  else
    grep -v '^fuzz: elapsed' "$log"
    result=FAILED
    failed=$((failed + 1))
    input="$(sed -n 's/^ *Failing input written to //p' "$log" | tail -n 1)"
    if [ -n "$input" ]; then
      again+=("$package/$input: go test -run '^$target\$/$(basename "$input")\$' $package")
    else
      again+=("$target failed before it tested a new input: go test -run '^$target\$' $package")
    fi
  fi
  execs="$(sed -n 's/^fuzz: elapsed:.* execs: \([0-9]*\).*/\1/p' "$log" | tail -n 1)"
  rows+=("$(printf '%-24s %-34s %-8s %5ss %10s' "$target" "$package" "$result" "$((SECONDS - begin))" "${execs:-0}")")
done < <(git ls-files --cached --others --exclude-standard '*_test.go' | grep -v '^hack/' |
  xargs grep -HoE '^func Fuzz[A-Za-z0-9_]*' | sed 's/func //' | sort)

if [ "$((passed + failed))" -eq 0 ]; then
  echo "hack/fuzz.sh: no such target" >&2
  exit 2
fi
printf '\n%-24s %-34s %-8s %6s %10s\n' target package result time executions
printf '%s\n' "${rows[@]}"
[ "${#again[@]}" -eq 0 ] || printf '%s\n' "" "To reproduce the failures:" "${again[@]}"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
