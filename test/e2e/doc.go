// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e tests rekey as users run it: on a real node, as a pod of a locally built image, with the shipped manifests
// and roles, beside a real PostgreSQL.
//
//	make e2e
//	make e2e TESTFLAGS='-run TestForTheWholeCluster/pods'
//
// One cluster serves the whole run. The tests need the build tag e2e, root, and what hack/install-deps.sh installs.
package e2e
