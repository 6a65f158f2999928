// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command server is the server of the demo. It speaks TLS 1.3 only, asks every client for a certificate of its authority,
// and reads its own from the mounted Secret at every handshake: a new certificate needs no restart and no signal.
//
// It answers every request with the serial number of the certificate that it saw.
package main
