// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command server is the server of the demo. It speaks only TLS 1.3, requires a client certificate from its CA, and reads
// its own certificate from the mounted Secret at every handshake: a new one needs no restart and no signal.
//
// It answers every request with the serial number of the client's certificate.
package main
