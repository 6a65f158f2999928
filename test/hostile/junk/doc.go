// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package junk proves that what other people put into a cluster does not fill the memory of rekey: the binary that is shipped
// runs beside a real API server, with the limits of its Deployment, while Secrets with our labels are made by the thousand
// and by the MiB.
//
// The size is that of the environment variable REKEY_SIZE: short (the default) or full.
package junk
