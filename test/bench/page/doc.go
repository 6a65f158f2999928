// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command page generates docs/benchmarks.md, docs/benchmarks.svg and docs/benchmarks.json from the results of a full run in
// .cache/test/bench, or from the named file: docs/benchmarks.json regenerates the page.
package main
