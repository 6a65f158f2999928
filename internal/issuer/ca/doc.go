// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ca signs certificates with a key that rekey holds.
//
// An Authority is a key pair from a Secret: the certificate that signs, with the chain above it, its key, and the trust anchors.
// Constraints limit what the authority may certify; a kind of name that they do not list is denied. New combines the two into
// an issuer.Issuer.
//
// What is published of an authority:
//
//   - tls.crt of an identity is the leaf, then every certificate of the chain that is not self-signed, so that a peer
//     needs only the trust anchor;
//   - ca.crt is the Secret's ca.crt; without that, the self-signed certificate at the end of the chain; without that, the
//     topmost certificate of the chain. In the last case peers must accept a trust anchor that is not self-signed: Go does,
//     OpenSSL needs -partial_chain (X509_V_FLAG_PARTIAL_CHAIN).
//
// The package knows nothing about Kubernetes, writes nothing, keeps no state and has no clock: every time is passed in.
package ca
