// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package inventory finds the certificates in the data of Secrets and ConfigMaps that rekey does not manage, and keeps a catalog of them.
//
//   - Find reads every value: PEM anywhere in a text, DER, PKCS#12, JKS, kubeconfigs, and base64 of these. It reports what it found
//     and what looks like certificates but cannot be read, with the reason. It never panics, and its time and memory are bounded
//     whatever the bytes are: lengths and the work factor of passwords are checked before a keystore is decoded.
//   - A Catalog keeps public data only: hash, validity, subject, issuer and place of each certificate. It holds no private key.
//
// It knows nothing about clocks and API servers: the caller lists and reads, and passes the time.
package inventory
