// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package e2e tries rekey as people use it: on a real node, as a pod of a locally built image, from the manifests that are
// shipped and with the roles that are shipped, beside a real PostgreSQL.
//
//	make e2e
//	make e2e TESTFLAGS='-run TestForTheWholeCluster/pods'
//
// One cluster is started for the whole run. Its tests need the build tag e2e, root, and what hack/install-deps.sh installs.
package e2e
