// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package docs checks what the documentation promises: a runbook for every warning reason, links that resolve, numbers that
// match the code.
package docs
