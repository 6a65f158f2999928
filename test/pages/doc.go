// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package pages runs what the pages tell readers to run: every kubectl and openssl command against a real API server that
// holds the samples, every SQL statement on real PostgreSQL servers, every YAML object against the CRDs. For make, go and
// scripts it checks that the target, package, test or file exists.
package pages
