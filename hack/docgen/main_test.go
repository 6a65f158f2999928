// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheGeneratedPagesMatchTheirSources(t *testing.T) {
	for _, page := range pages("../..") {
		t.Run(page.file, func(t *testing.T) {
			want, err := page.write()
			if err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(page.file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Errorf("out of date; run: make docs (-want +got):\n%s", diff)
			}
		})
	}
}
