// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package canary searches for secrets in texts that must not hold them: logs, Events, statuses, output of programs.
package canary
