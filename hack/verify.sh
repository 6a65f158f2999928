#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# What must hold in every commit and that no test checks: generated files match their sources, license headers, tidy modules,
# file lengths, scripts, the language, the reading path, valid lint configuration, alert rules. Every check runs, even after
# one has failed.
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

# files PATTERN... lists the existing files that git knows or would add.
files() { git ls-files --cached --others --exclude-standard -- "$@" | sort -u | while read -r file; do [ ! -f "$file" ] || echo "$file"; done; }

generated() {
  local paths=(api config/crd/bases config/prometheus docs/api.md docs/conditions.md docs/reliability.md dist/install.yaml) before after
  before="$(files "${paths[@]}" | xargs sha256sum)"
  make generate >/dev/null || return 1
  after="$(files "${paths[@]}" | xargs sha256sum)"
  if [ "$before" != "$after" ]; then
    echo "make generate changes these files; commit the result:"
    diff <(echo "$before") <(echo "$after") | sed -n 's/^[<>] [0-9a-f]* */  /p' | sort -u
    git --no-pager diff --stat -- "${paths[@]}"
    return 1
  fi
  # In a clean checkout nothing may differ from the commit.
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

# A file of more than 400 lines hides two ideas. Tests and generated files are exempt.
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

# The reading path of CONTRIBUTING must stay short enough for a newcomer's first hour.
reading_path() {
  local most=1200 paths total
  mapfile -t paths < <(sed -n '/^## Where to start reading$/,/^## /s/^[0-9]*\. //p' CONTRIBUTING.md | grep -oE '\]\([^)#]+' | cut -c3-)
  if [ "${#paths[@]}" -lt 6 ]; then
    echo "CONTRIBUTING.md lists ${#paths[@]} files under 'Where to start reading': the numbered list must link the whole path"
    return 1
  fi
  wc -l "${paths[@]}" || return 1
  total="$(cat "${paths[@]}" | wc -l)"
  [ "$total" -le "$most" ] || { echo "the reading path has $total lines, more than $most: split a file by concern, or link a shorter one"; return 1; }
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
check "file lengths" lengths
check "reading path" reading_path
check "scripts" scripts
check "words" go run ./hack/words
check "lint configuration" lint_configuration
check "alert rules" alerts
check "reasons, runbooks, links and import rules" go test ./test/docs

if [ "${#failed[@]}" -gt 0 ]; then
  printf '\nverify: %d failed:\n' "${#failed[@]}"
  printf '  %s\n' "${failed[@]}"
  exit 1
fi
printf '\nverify: all checks passed\n'
