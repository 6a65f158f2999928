// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pgtest starts real PostgreSQL servers for tests, the demo and the end-to-end runs.
//
// A server has its own scratch folder, a free port, TLS with its own CA, SCRAM for every login, and every statement in its
// log. It stops with the process that started it, even if that one is killed. As root it runs as an unprivileged user,
// because PostgreSQL refuses root.
//
// A version that is not installed is never a reason to skip: the error names the command that installs it.
package pgtest
