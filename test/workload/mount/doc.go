// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package mount reads a Secret volume so that all its files belong to one version of the Secret, and writes folders of
// the same shape for programs that run without a node.
//
// In a Secret volume every file is a symbolic link into the folder ..data, which is itself a link to the folder of one
// version. An update makes a new folder and swaps that one link, so a program that opens tls.crt and then tls.key by
// their names can get halves of two versions. Read follows ..data once and takes every file from the folder that it led to.
package mount
