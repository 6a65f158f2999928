// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/rekey/rekey/test/bench/results"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "page:", err)
		os.Exit(1)
	}
}

func run() error {
	path := filepath.Join(".cache", "test", "bench", results.Full+".json")
	if len(os.Args) > 1 {
		path = os.Args[1]
	}
	measured, err := results.Read(path)
	if err != nil {
		return fmt.Errorf("reading the results of a full run (make bench): %w", err)
	}
	return results.Publish(measured, "docs")
}
