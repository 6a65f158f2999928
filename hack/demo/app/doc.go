// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command app is the application of the demo: once a second it makes one call, and it counts the calls that fail.
//
// A call reads the credentials from the mounted Secrets now, opens a new connection to a server with mutual TLS 1.3 and
// sends one request, then logs in to PostgreSQL anew and runs one query. There is no pool that could hide a refused
// login, no session that could be resumed, and no second try: whatever goes wrong is a failed call.
package main
