#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# hack/test.sh test|e2e|crash|bench [go test flags]: runs the tests of a stage, prints a line for each package, and "N passed,
# N failed" as its last line. The output of go test is kept as .cache/test/<stage>-*.json. A skipped test counts as a failure:
# a test that cannot run here must fail and report why. REKEY_SIZE (short or full) is the size of crash and bench. REKEY_SEED is
# the seed of random samples: the date in test, so that a day's runs make the same choices; a new one for each package in crash.
# Before its last line, the script lists the ten slowest tests.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/bin:$PATH"

stage="${1:?usage: hack/test.sh test|e2e|crash|bench}"
shift
flags=("$@")
results="$PWD/.cache/test"
mkdir -p "$results"
rm -f "$results/$stage"-*.json
# The commit under test, for make record.
{ git rev-parse --short HEAD 2>/dev/null || echo unknown; } >"$results/$stage.commit"
if [ -n "$(git status --porcelain -- . ':!docs' ':!*.md' ':!test/reliability/results.json' 2>/dev/null)" ]; then
  echo "$(cat "$results/$stage.commit") with changes" >"$results/$stage.commit"
fi
status=0

# run FOLDER [go test arguments]
run() {
  local folder="$1" name
  shift
  name="${label:-$(tr / - <<<"$folder")}"
  echo "== tests in $folder"
  (cd "$folder" && gotestsum --format pkgname --format-hide-empty-pkg --jsonfile "$results/$stage-$name.json" -- \
    ${flags[@]+"${flags[@]}"} "$@") || status=1
}

# verbose PACKAGES [go test arguments] shows what the tests print: tables and figures. Packages separated by spaces run
# concurrently.
verbose() {
  local packages begin="$SECONDS"
  read -ra packages <<<"$1"
  shift
  label="$(tr ' /' +- <<<"${packages[*]#./}")"
  echo "== ${packages[*]}"
  gotestsum --format standard-verbose --jsonfile "$results/$stage-$label.json" -- \
    -count=1 ${flags[@]+"${flags[@]}"} "$@" "${packages[@]}" 2>&1 | grep --line-buffered -vE '^(=== (RUN|PAUSE|CONT|NAME)|--- PASS: [^ ]*/)' || status=1
  times+=("$(printf '%-54s %dm%02ds' "${packages[*]#./}" "$(((SECONDS - begin) / 60))" "$(((SECONDS - begin) % 60))")")
}
times=()

case "$stage" in
  test)
    export REKEY_SEED="${REKEY_SEED:-$(date -u +%Y%m%d)}"
    echo "the seed of random samples: REKEY_SEED=$REKEY_SEED"
    # The other modules mostly wait: they run beside the main one, and their output follows its output.
    (while read -r module; do
      [ "$module" = . ] || run "$module" -timeout 20m ./...
    done < <(hack/modules.sh --own)
    exit "$status") >"$results/$stage.others" 2>&1 &
    others="$!"
    # The packages under test/crash and test/faults have a stage of their own: make crash. Four packages run at a time on
    # two cores, because some mostly wait; the longest ones first, so that none is left running alone at the end. Parallel
    # tests wait for servers: four at a time.
    mapfile -t packages < <(go list ./... | grep -vE '/test/(crash|faults)(/|$)' | awk '
      /\/test\/security$/ { print 1, $0; next } /\/controllers$/ { print 2, $0; next } /\/database\/postgres$/ { print 3, $0; next }
      /\/internal\/lifecycle$|\/test\/(oddfiles|pages)$/ { print 4, $0; next } { print 5, $0 }' | sort -s -k1,1 | cut -d" " -f2)
    run . -timeout 20m -p "$(($(nproc) + 2))" -parallel "$(($(nproc) * 2))" "${packages[@]}"
    wait "$others" || status=1
    cat "$results/$stage.others"
    ;;
  crash)
    # The tests of faults mostly wait for servers that start, stop and do not answer: other packages can compute meanwhile, the
    # longest one first. A full run leaves them more room. Parallel tests wait for an API server: six at a time keep two cores busy.
    # An hour for each package: beside other work, a short run can take half of that.
    groups=(./test/crash "./test/crash/matrix ./test/faults/kubernetes" "./test/crash/twoleaders ./test/faults/database ./test/oddfiles" ./test/faults/junk)
    at_once=2
    if [ "${REKEY_SIZE:-full}" = short ]; then
      groups=(./test/crash "./test/faults/kubernetes ./test/crash/matrix ./test/crash/twoleaders ./test/faults/database ./test/oddfiles" ./test/faults/junk)
      at_once=3
    fi
    for packages in "${groups[@]}"; do
      verbose "$packages" -timeout 60m -parallel 6 -p "$at_once"
    done
    # make test samples these spaces: crashes of every kind of source; and pairs of bounds, moments of a life, whole days, harmless
    # mutants, verbs of a tenant, lives under two installations.
    verbose ./internal/lifecycle -timeout 60m
    if [ "${REKEY_SIZE:-full}" = full ]; then
      verbose ./test/reconcile -timeout 60m -run '^TestNumbersAtTheirBounds$'
      verbose ./controllers -timeout 60m
      verbose ./test/security -timeout 60m -run '^(TestNamingAnotherTenantsObjectLooksLikeNamingAMissingOne$|TestALifeUnderTheRightsOf)'
    fi
    ;;
  bench)
    verbose ./test/bench -timeout 40m -tags bench -run '^TestSpeed$'
    ;;
  e2e)
    run . -count=1 -timeout 30m -tags e2e ./test/e2e/...
    ;;
  *)
    echo "hack/test.sh: unknown stage $stage: use test, e2e, crash or bench" >&2
    exit 2
    ;;
esac

read -r passed failed skipped < <(hack/count.sh "$results/$stage"-*.json)
if [ "$skipped" -gt 0 ]; then
  echo "$skipped skipped:"
  grep -h '"Action":"skip"' "$results/$stage"-*.json | sed -n 's/.*"Test":"\([^"]*\)".*/  \1/p'
  status=1
fi
echo "the slowest tests:"
go run ./hack/slowest "$results/$stage"-*.json || status=1
[ "${#times[@]}" -eq 0 ] || printf '%s\n' "" "${times[@]}"
echo "$passed passed, $failed failed"
exit "$status"
