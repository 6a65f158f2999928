// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package junk tests that Secrets of other users do not fill rekey's memory. The shipped binary runs beside a real API server,
// within the limits of its Deployment, while thousands of Secrets with rekey's labels are created, some of them nearly 1 MiB.
//
// The environment variable REKEY_SIZE is short (the default) or full.
package junk
