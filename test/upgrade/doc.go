// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package upgrade tests the steps of docs/install.md for objects of an earlier version. testdata has the CRDs of that version,
// objects in its form (old.yaml) and in today's (new.yaml), and what its operator created for them: Secrets, ledgers and records
// before and after the objects' deletion (before.yaml, retained.yaml), and the logins in PostgreSQL (roles.sql).
// testdata/record.sh recorded them.
package upgrade
