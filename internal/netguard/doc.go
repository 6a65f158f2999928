// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package netguard decides which addresses may be dialed, and when.
//
//   - Rules refuse networks to which a name in a spec must never lead: loopback, link-local, metadata services.
//   - A Dialer resolves a host, checks every answer, and connects only to an address that was checked. Nothing is resolved
//     again between check and connection.
//   - Its gate allows one attempt at a time to reach an address that did not answer last time, so that a silent server
//     does not occupy every worker.
//
// It knows nothing about protocols or Kubernetes. Every engine, issuer and provider that connects to an address from a spec dials
// through it.
package netguard
