// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package keystore encodes a private key, its certificates and trust anchors as the files that Java reads: PKCS#12 and JKS.
//
// Two encodings of the same content differ in every byte that matters, because each has random salts. Seal makes them comparable
// without the files being decrypted.
package keystore
