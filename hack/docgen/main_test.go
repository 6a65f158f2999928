// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheGeneratedPagesAreWhatTheSourcesSay(t *testing.T) {
	pages := map[string]func() (string, error){
		"../../docs/api.md":        func() (string, error) { return apiPage("../../" + crds) },
		"../../docs/conditions.md": func() (string, error) { return conditionsPage("../../" + conditionsFile) },
	}
	for page, write := range pages {
		t.Run(page, func(t *testing.T) {
			want, err := write()
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(page)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Errorf("out of date; run: make docs (-want +got):\n%s", diff)
			}
		})
	}
}
