// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Command docgen writes docs/api.md from the CRDs and docs/conditions.md from the comments of the conditions. It is run
// from the root of the repository: make docs.
package main

import (
	"fmt"
	"os"
)

const (
	crds           = "config/crd/bases"
	conditionsFile = "api/v1alpha1/conditions.go"
)

func main() {
	pages := map[string]func() (string, error){
		"docs/api.md":        func() (string, error) { return apiPage(crds) },
		"docs/conditions.md": func() (string, error) { return conditionsPage(conditionsFile) },
	}
	for page, write := range pages {
		text, err := write()
		if err == nil {
			err = os.WriteFile(page, []byte(text), 0o644)
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "docgen: writing %s: %v\n", page, err)
			os.Exit(1)
		}
	}
}
