#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# hack/test.sh test|e2e [go test flags]: runs the tests of a stage, prints a line for each package, and ends with
# "N passed, N failed". What go test said is kept as .cache/test/<stage>-*.json. A test that was skipped is a failure:
# what cannot be tried here must say so and fail.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/bin:$PATH"

stage="${1:?which stage: test or e2e}"
shift
flags=("$@")
results="$PWD/.cache/test"
mkdir -p "$results"
rm -f "$results/$stage"-*.json
status=0

# run FOLDER [go test arguments]
run() {
  local folder="$1" name
  shift
  name="$(tr / - <<<"$folder")"
  echo "== tests in $folder"
  (cd "$folder" && gotestsum --format pkgname --format-hide-empty-pkg --jsonfile "$results/$stage-$name.json" -- \
    ${flags[@]+"${flags[@]}"} "$@") || status=1
}

case "$stage" in
  test)
    while read -r module; do
      run "$module" -timeout 20m ./...
    done < <(hack/modules.sh --own)
    ;;
  e2e)
    run . -count=1 -timeout 30m -tags e2e ./test/e2e/...
    ;;
  *)
    echo "hack/test.sh: no stage $stage: it is test or e2e" >&2
    exit 2
    ;;
esac

read -r passed failed skipped < <(hack/count.sh "$results/$stage"-*.json)
if [ "$skipped" -gt 0 ]; then
  echo "$skipped skipped:"
  grep -h '"Action":"skip"' "$results/$stage"-*.json | sed -n 's/.*"Test":"\([^"]*\)".*/  \1/p'
  status=1
fi
echo "$passed passed, $failed failed"
exit "$status"
