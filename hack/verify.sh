#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# Everything that must be so in every commit and that no test says: generated files are what their sources make, licence
# headers, tidy modules, lengths of files, valid lint configuration, alert rules that do what they say. Every check runs,
# even after one has failed.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/bin:$PATH"

failed=()

# check NAME COMMAND...
check() {
  local name="$1"
  shift
  echo "== $name"
  "$@" || failed+=("$name")
}

# What git knows or would take in, of what is really there.
files() { git ls-files --cached --others --exclude-standard -- "$@" | sort -u | while read -r file; do [ ! -f "$file" ] || echo "$file"; done; }

generated() {
  local paths=(api config/crd/bases config/prometheus docs/api.md docs/conditions.md docs/reliability.md dist/install.yaml) before after
  before="$(files "${paths[@]}" | xargs sha256sum)"
  make generate >/dev/null || return 1
  after="$(files "${paths[@]}" | xargs sha256sum)"
  if [ "$before" != "$after" ]; then
    echo "These change with make generate; commit what it makes:"
    diff <(echo "$before") <(echo "$after") | sed -n 's/^[<>] [0-9a-f]* */  /p' | sort -u
    git --no-pager diff --stat -- "${paths[@]}"
    return 1
  fi
  # In a clean checkout nothing may differ from what is committed.
  if [ -n "${CI:-}" ]; then git --no-pager diff --exit-code; fi
}

licenses() {
  local file missing=0
  while read -r file; do
    head -n 4 "$file" | grep -q 'Copyright The rekey Authors\.' && head -n 5 "$file" | grep -q 'SPDX-License-Identifier: Apache-2\.0' && continue
    echo "no license header: $file"
    missing=1
  done < <(files '*.go' '*.sh' Makefile .ci/run Dockerfile '.golangci*.yml' 'config/**/*.yaml' | grep -vE '^config/crd/bases/|zz_generated|/testdata/')
  return "$missing"
}

tidy() {
  local module status=0
  mkdir -p .cache
  while read -r module; do
    go -C "$module" mod tidy -diff > .cache/tidy.diff || { echo "go.mod or go.sum of $module is not tidy; run: make tidy"; head -n 20 .cache/tidy.diff; status=1; }
  done < <(hack/modules.sh)
  return "$status"
}

# A file of more than 400 lines hides two ideas. Tests and generated files aside.
lengths() {
  local file lines status=0
  while read -r file; do
    lines="$(wc -l < "$file")"
    if [ "$lines" -gt 400 ]; then
      echo "$file has $lines lines, more than 400: split it by concern"
      status=1
    fi
  done < <(files '*.go' | grep -vE '_test\.go$|zz_generated')
  return "$status"
}

scripts() {
  local file status=0
  while read -r file; do
    bash -n "$file" || status=1
    [ -x "$file" ] || { echo "$file is not executable"; status=1; }
  done < <(files '*.sh' .ci/run)
  return "$status"
}

lint_configuration() { golangci-lint config verify --config .golangci.yml && golangci-lint config verify --config .golangci-kal.yml; }

alerts() { promtool check rules --lint=all --lint-fatal config/prometheus/rules.yaml && promtool test rules config/prometheus/rules_test.yaml; }

check "generated files" generated
check "license headers" licenses
check "tidy modules" tidy
check "lengths of files" lengths
check "scripts" scripts
check "words" go run ./hack/words
check "lint configuration" lint_configuration
check "alert rules" alerts
check "reasons, runbooks and links" go test ./test/docs

if [ "${#failed[@]}" -gt 0 ]; then
  printf '\nverify: %d failed:\n' "${#failed[@]}"
  printf '  %s\n' "${failed[@]}"
  exit 1
fi
printf '\nverify: all is as it should be\n'
