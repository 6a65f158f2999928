// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package oddfiles makes certificates, chains, bundles and keys in the forms that people have, valid and odd, and asks
// OpenSSL, Go and Java about each. Its tests hold rekey to their verdicts:
//
//   - a path that Go and at least one other accept, rekey accepts;
//   - what Go cannot verify is refused, and the message says that it is not supported;
//   - what all of them refuse is refused for its true cause;
//   - what rekey publishes, all three accept.
//
// Forms lists the cases with one oddity each, Draw combines several by a seed. It needs the commands openssl and java; a
// test fails without them (hack/install-deps.sh test java installs both).
package oddfiles
