#!/usr/bin/env bash
# Copyright The rekey Authors.
# SPDX-License-Identifier: Apache-2.0

# hack/deploy.sh IMAGE: prints the manifests of config/default with IMAGE as the operator's image.
set -euo pipefail
cd "$(dirname "$0")/.."
PATH="$PWD/bin:$PATH"

image="${1:?usage: hack/deploy.sh IMAGE}"
overlay=.cache/deploy
mkdir -p "$overlay"
cat > "$overlay/kustomization.yaml" <<EOF
resources:
- ../../config/default
images:
- name: rekey.dev/rekey
  newName: ${image%:*}
  newTag: "${image##*:}"
EOF
kustomize build "$overlay"
