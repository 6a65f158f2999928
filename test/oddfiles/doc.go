// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package oddfiles creates certificates, chains, bundles and keys in the forms that users have, valid and odd, and asks
// OpenSSL, Go and Java about each. Its tests hold rekey to their verdicts:
//
//   - rekey accepts a path that Go and at least one other judge accept;
//   - rekey refuses what Go cannot verify, and the message says that it is not supported;
//   - rekey refuses what all of them refuse, for its true cause;
//   - all three accept what rekey publishes.
//
// Forms lists the cases with one oddity each, Draw combines several by a seed. The package needs the commands openssl and
// java; a test fails without them (hack/install-deps.sh test java installs both).
package oddfiles
