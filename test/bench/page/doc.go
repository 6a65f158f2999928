// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command page makes docs/benchmarks.md, docs/benchmarks.svg and docs/benchmarks.json out of what a full run of the
// benchmarks has left in .cache/test/bench, or of the file that is named: docs/benchmarks.json writes the page anew.
package main
