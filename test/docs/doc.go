// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package docs checks what the documentation promises: a runbook for every warning reason, links that resolve, numbers and a
// planner's table that match the code, import rules that the linter has too, controllers that know only the contracts of engines
// and issuers.
package docs
