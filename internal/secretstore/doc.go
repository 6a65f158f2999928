// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package secretstore keeps credentials in Kubernetes Secrets: what is written down about one (the ledger), and what its
// user sees (the user's Secret).
//
// Two stores do the same four things (load, save, publish, withdraw):
//
//   - Ledgered, for a credential that some other system knows too. The ledger is the truth, the user's Secret its
//     projection. Both are read live, and written by create or by update with the resourceVersion of what was read.
//   - Published, for a certificate that is signed with a key that we hold. The user's Secret is the truth, a pending
//     version lives in memory. Reads may come from a cache that StripMaterial has emptied of keys.
//
// What it promises:
//
//   - A Secret that is not ours is never changed. Ours is what carries the annotation rekey.dev/owner with our kind and
//     name; a person hands another one over with rekey.dev/adopt. When two objects want the same name, whichever creates
//     the Secret has it: the create is the compare-and-swap.
//   - Nothing is written where nothing differs.
//   - The data of the user's Secret is exactly what the credential says: keys that somebody added are removed with the next
//     repair. Labels, annotations and owner references of others are kept; those of a template that was shortened are
//     removed, because the Secret remembers which ones we set.
//   - The ledger is compared and never obeyed: a record that names a login which the spec does not derive is refused, and
//     with it the whole ledger.
//   - No error shows a byte of a secret.
//
// It knows nothing of clocks, of when something is due, or of what a remote system thinks.
package secretstore
