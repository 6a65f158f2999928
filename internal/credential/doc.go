// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package credential holds the words that every room of rekey shares: what a credential is called (Ref), what it is made
// of (Material, Sensitive), what a remote end says of it (Answer), what a source can do with it (Traits), and the
// contract by which one version of it comes true and is taken away again (Source).
//
// It knows nothing of Kubernetes, of databases or of time, and imports the standard library only.
package credential
