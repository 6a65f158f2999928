// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pgtest starts real PostgreSQL servers for tests, the demo and the end-to-end runs.
//
// A server lives in a scratch folder of its own, on a free port, with TLS by a CA that is made for it, SCRAM for every
// login, and every statement in its log. It ends with the process that started it, also when that one is killed. As
// root it runs as an unprivileged user, since PostgreSQL refuses root.
//
// A version that is not installed is an error that names the command which installs it, never a reason to skip.
package pgtest
