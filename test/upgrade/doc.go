// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package upgrade tests the steps of docs/install.md for objects of an earlier version. testdata has the CRDs of that version,
// objects in its form (old.yaml) and in today's (new.yaml), and what its operator left for them: Secrets, ledgers and records
// before and after their deletion (before.yaml, retained.yaml), and the logins in PostgreSQL (roles.sql). testdata/record.sh
// records them again.
package upgrade
