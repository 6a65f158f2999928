#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# hack/fuzz.sh TIME [NAME...]: runs every fuzz target of the root module, or only the named ones, for TIME (30s, 5m ...) each,
# as many at a time as there are processors. Go keeps a failing input under testdata/fuzz next to the test; from then on it is a
# case of make test. The script prints a table of results, and "N passed, N failed" as its last line.
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
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
trap 'kill $(jobs -p) 2>/dev/null; exit 130' INT TERM
passed=0
failed=0

# time_was_over LOG succeeds if the deadline is the only failure: Go reports nothing else and keeps no input.
time_was_over() {
  ! grep -q 'Failing input written to\|panic:' "$1" &&
    [ "$(sed -n '/^--- FAIL: /,/^FAIL$/p' "$1" | sed '1d;$d' | tr -s ' \n' ' ')" = " context deadline exceeded " ]
}

# fuzz FILE TARGET runs a target. It leaves its output, its line of the table and the command that repeats its failure in $work.
fuzz() {
  local package="./$(dirname "$1")" target="$2" begin="$SECONDS" result=passed log="$work/$2.log" input execs
  {
    echo "== $target in $package for $time"
    if go test -run '^$' -fuzz "^$target\$" -fuzztime "$time" -fuzzminimizetime 10s -timeout 0 -parallel 1 "$package" >"$log" 2>&1; then
      grep '^ok' "$log"
    elif time_was_over "$log"; then
      echo "$target: Go's fuzzer reported its deadline as a failure (https://go.dev/issue/75804, fixed in Go 1.27); no input failed"
    else
      grep -v '^fuzz: elapsed' "$log"
      result=FAILED
      input="$(sed -n 's/^ *Failing input written to //p' "$log" | tail -n 1)"
      if [ -n "$input" ]; then
        echo "$package/$input: go test -run '^$target\$/$(basename "$input")\$' $package" >"$work/$target.again"
      else
        echo "$target failed before it tested a new input: go test -run '^$target\$' $package" >"$work/$target.again"
      fi
    fi
  } >"$work/$target.out"
  execs="$(sed -n 's/^fuzz: elapsed:.* execs: \([0-9]*\).*/\1/p' "$log" | tail -n 1)"
  printf '%-24s %-34s %-8s %5ss %10s\n' "$target" "$package" "$result" "$((SECONDS - begin))" "${execs:-0}" >"$work/$target.row"
  cat "$work/$target.out"
}

targets=()
while IFS=: read -r file target; do
  if [ "$#" -gt 0 ] && [[ " $* " != *" $target "* ]]; then continue; fi
  targets+=("$target")
  while [ "$(jobs -pr | wc -l)" -ge "$(nproc)" ]; do wait -n; done
  fuzz "$file" "$target" &
done < <(git ls-files --cached --others --exclude-standard '*_test.go' | grep -v '^hack/' |
  xargs grep -HoE '^func Fuzz[A-Za-z0-9_]*' | sed 's/func //' | sort)
wait

rows=()
again=()
for target in ${targets[@]+"${targets[@]}"}; do
  # A target without a line was killed.
  row="$(cat "$work/$target.row" 2>/dev/null || printf '%-24s %-34s FAILED' "$target" "?")"
  rows+=("$row")
  if [[ "$row" == *" passed "* ]]; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
  if [ -f "$work/$target.again" ]; then again+=("$(cat "$work/$target.again")"); fi
done

if [ "$((passed + failed))" -eq 0 ]; then
  echo "hack/fuzz.sh: no such target" >&2
  exit 2
fi
printf '\n%-24s %-34s %-8s %6s %10s\n' target package result time executions
printf '%s\n' "${rows[@]}"
[ "${#again[@]}" -eq 0 ] || printf '%s\n' "" "To reproduce the failures:" "${again[@]}"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
