#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# hack/fuzz.sh TIME [NAME...]: tries every fuzz target of the root module for TIME (30s, 5m ...), one after the other, or only
# those that are named. It finds them itself. What breaks one is kept by Go under testdata/fuzz beside the test, and is from
# then on a case of make test. At the end stands what each did; the last line is "N passed, N failed".
#
# A corpus is kept in testdata/fuzz/TARGET beside the test: one file for each input, named by its hash, replayed by plain
# `go test`. Go writes only inputs there that fail; those that merely reach new code it leaves in its cache, which dies with the
# machine: "$(go env GOCACHE)/fuzz/github.com/rekey/rekey/PACKAGE/TARGET". After a long run, copy some of those to testdata/fuzz:
# small ones (below 2 KiB, about twenty for each target, of different lengths), and none that holds a key or a certificate.
#
# Each target has one worker: some start a server of their own, and starting as many as there are processors would cost more
# than it brings.
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

# time_was_over tells whether the end of the time is all that went wrong: nothing follows but those words, and no input is kept.
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
    echo "$target: Go's fuzzer took the end of the time for a failure (https://go.dev/issue/75804, mended in Go 1.27); no input broke it"
  else
    grep -v '^fuzz: elapsed' "$log"
    result=FAILED
    failed=$((failed + 1))
    input="$(sed -n 's/^ *Failing input written to //p' "$log" | tail -n 1)"
    if [ -n "$input" ]; then
      again+=("$package/$input is kept: go test -run '^$target\$/$(basename "$input")\$' $package")
    else
      again+=("$target broke before it tried anything new: go test -run '^$target\$' $package")
    fi
  fi
  execs="$(sed -n 's/^fuzz: elapsed:.* execs: \([0-9]*\).*/\1/p' "$log" | tail -n 1)"
  rows+=("$(printf '%-24s %-34s %-8s %5ss %10s' "$target" "$package" "$result" "$((SECONDS - begin))" "${execs:-0}")")
done < <(git ls-files --cached --others --exclude-standard '*_test.go' | grep -v '^hack/' |
  xargs grep -HoE '^func Fuzz[A-Za-z0-9_]*' | sed 's/func //' | sort)

if [ "$((passed + failed))" -eq 0 ]; then
  echo "hack/fuzz.sh: there is no such target" >&2
  exit 2
fi
printf '\n%-24s %-34s %-8s %6s %10s\n' target package result time executions
printf '%s\n' "${rows[@]}"
[ "${#again[@]}" -eq 0 ] || printf '%s\n' "" "To see a failure again:" "${again[@]}"
echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
