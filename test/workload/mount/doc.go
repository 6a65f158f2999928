// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package mount reads a Secret volume so that all its files belong to one version of the Secret, and writes folders with
// the same layout for programs that run without a node.
//
// In a Secret volume every file is a symbolic link into the folder ..data, which is itself a link to the folder of one
// version. An update creates a new folder and swaps that one link, so a program that opens tls.crt and then tls.key by
// name can get halves of two versions. Read resolves ..data once and reads every file from the folder it points to.
package mount
