// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package credential has the types that all packages of rekey share: how a credential is named (Ref), what it consists of
// (Material, Sensitive), how a remote system answers about it (Answer), what a source can do with it (Traits), and the
// contract by which a version takes effect and is later retired (Source).
//
// It knows nothing about Kubernetes, databases or time, and imports only the standard library.
package credential
