// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package handshake dials an endpoint as a client would and reports what happened, as one of a closed set of causes.
//
//   - Dialer.Dial connects through netguard, speaks the part of the protocol that precedes TLS, performs the handshake, and then
//     makes the protocol's first exchange: with TLS 1.3 a server judges the client's certificate only after the client's
//     handshake has succeeded.
//   - Judge is pure. It combines what the server sent (an alert, an answer, nothing) with rekey's own evaluation of both chains,
//     the server's list of acceptable authorities, and the clocks: an alert alone has several causes.
//   - JudgeClient is the same for a server that rekey runs, about its clients.
//
// Causes that cannot be distinguished are all reported, most likely first. docs/handshakes.md shows what rekey reports about
// real servers.
//
// An attempt is limited in time and in the bytes it reads, whatever the peer does. A client certificate is presented only to a
// server whose own certificate is in order. No private key appears in a Result, and no text of a peer but what its certificates
// contain: names, and the protocol that was agreed on.
package handshake
