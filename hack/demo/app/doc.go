// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command app is the application of the demo: it makes one call a second and counts the failed ones.
//
// Each call reads the credentials from the mounted Secrets, opens a new connection to a server with mutual TLS 1.3, sends
// one request, then logs in to PostgreSQL and runs one query. No pool can hide a rejected login, no session is resumed,
// and nothing is retried: any error is a failed call.
package main
