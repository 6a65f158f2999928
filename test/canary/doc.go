// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package canary looks for secrets in texts that must not hold them: logs, Events, statuses, what programs print.
package canary
