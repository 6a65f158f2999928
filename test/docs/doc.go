// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package docs holds what the documentation promises: a runbook for every reason that warns, and links that lead somewhere.
package docs
