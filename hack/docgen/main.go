// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command docgen writes docs/api.md from the CRDs, docs/conditions.md from the comments of the conditions, and
// docs/reliability.md from the rows of test/reliability and the crash matrix. Run it from the root of the repository: make
// docs.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/rekey/rekey/test/reliability"
)

const (
	crds           = "config/crd/bases"
	conditionsFile = "api/v1alpha1/conditions.go"
	matrixFile     = "test/crash/matrix/testdata/matrix.json"
)

// generated is one page and the function that returns its text.
type generated struct {
	file  string
	write func() (string, error)
}

// pages returns the pages of the repository at root.
func pages(root string) []generated {
	at := func(file string) string { return filepath.Join(root, filepath.FromSlash(file)) }
	return []generated{
		{at("docs/api.md"), func() (string, error) { return apiPage(at(crds)) }},
		{at("docs/conditions.md"), func() (string, error) { return conditionsPage(at(conditionsFile)) }},
		{at("docs/reliability.md"), func() (string, error) {
			results, err := reliability.Results(root)
			if err != nil {
				return "", err
			}
			return reliabilityPage(at(reliability.Rows), at(matrixFile), results)
		}},
	}
}

func main() {
	failed := false
	for _, page := range pages(".") {
		text, err := page.write()
		if err == nil {
			err = os.WriteFile(page.file, []byte(text), 0o644)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "docgen: writing %s: %v\n", page.file, err)
			failed = true
		}
	}
	if failed {
		os.Exit(1)
	}
}
