#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# Records before.yaml, retained.yaml and roles.sql again: runs the operator of commit 87502d7 on the objects of old.yaml, with a real
# API server (KUBEBUILDER_ASSETS) and PostgreSQL 15, rotates the credential once, and then deletes all objects.
set -euo pipefail
cd "$(dirname "$0")"
scratch="$(mktemp -d)"
trap 'rm -rf "$scratch"' EXIT
git -C ../../.. archive 87502d7 | tar -x -C "$scratch"
mkdir "$scratch/test/upgrade"
cp record_test.go.txt "$scratch/test/upgrade/record_test.go"
cp "$scratch"/config/crd/bases/*.yaml crds/
REKEY_RECORD="$PWD" go -C "$scratch" test -count=1 -run '^TestRecord$' ./test/upgrade
