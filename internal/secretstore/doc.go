// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package secretstore keeps credentials in Kubernetes Secrets: the record of a credential (the ledger), and what its user
// sees (the user's Secret).
//
// Two stores do the same four things (load, save, publish, withdraw):
//
//   - Ledgered, for a credential that a remote system also knows. The ledger is the source of truth, and the user's Secret is its
//     projection. Both are read live, and created, or updated with the resourceVersion that was read.
//   - Published, for a certificate. The user's Secret is the source of truth, and a pending version is kept in memory or, if it
//     has to outlive the process, in a ledger of its own. Reads may come from a cache whose keys StripMaterial has removed.
//
// What it promises:
//
//   - A Secret that is not ours is never changed. A Secret is ours if its annotation rekey.dev/owner has the object's kind
//     and name; a user hands another Secret over with rekey.dev/adopt. If two objects want the same name, the one that
//     creates the Secret owns it: the create is the compare-and-swap.
//   - Nothing is written if nothing differs.
//   - The data of the user's Secret is exactly the credential: keys that others added are removed with the next repair.
//     Labels, annotations and owner references of others are kept; those that were removed from the template are removed,
//     because the Secret records which ones rekey set.
//   - The ledger is checked before it is used: if the kind's Check finds anything that is not derived from the spec, the whole
//     ledger is refused.
//   - No error shows a byte of a secret.
//
// It knows nothing about clocks, due times or remote systems.
package secretstore
