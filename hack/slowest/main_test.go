// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestTheSlowestTestsAreListed(t *testing.T) {
	lines := []string{
		`{"Action":"run","Package":"rekey/a","Test":"TestOne"}`,
		`{"Action":"pass","Package":"rekey/a","Test":"TestOne/serial","Elapsed":2}`,
		`{"Action":"pass","Package":"rekey/a","Test":"TestOne","Elapsed":3.5}`,
		// A name with a slash is a subtest of a subtest; the parents of parallel subtests report no time.
		`{"Action":"pass","Package":"rekey/a","Test":"TestParallel/first/deep","Elapsed":4}`,
		`{"Action":"fail","Package":"rekey/a","Test":"TestParallel/first","Elapsed":1}`,
		`{"Action":"pass","Package":"rekey/a","Test":"TestParallel/second","Elapsed":5}`,
		`{"Action":"fail","Package":"rekey/a","Test":"TestParallel","Elapsed":0}`,
		`{"Action":"output","Package":"rekey/a","Test":"TestOne","Elapsed":99,"Output":"text"}`,
		`{"Action":"fail","Package":"rekey/a","Elapsed":99}`,
	}
	for i := range 20 {
		lines = append(lines, fmt.Sprintf(`{"Action":"pass","Package":"rekey/b","Test":"TestFast%02d","Elapsed":0.0%02d}`, i, i))
	}
	lines = append(lines, `{"Action":"pass","Pack`)
	file := filepath.Join(t.TempDir(), "results.json")
	if err := os.WriteFile(file, []byte(strings.Join(lines, "\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	if err := run([]string{file}, &out); err != nil {
		t.Fatal(err)
	}
	got := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(got) != most {
		t.Errorf("%d tests are listed, want %d", len(got), most)
	}
	want := []string{"    9.0s  rekey/a TestParallel", "    3.5s  rekey/a TestOne", "    0.0s  rekey/b TestFast19"}
	if diff := cmp.Diff(want, got[:3]); diff != "" {
		t.Errorf("the list (-want +got):\n%s", diff)
	}
}

func TestAMissingFileIsAnError(t *testing.T) {
	if err := run([]string{filepath.Join(t.TempDir(), "missing.json")}, &strings.Builder{}); err == nil {
		t.Error("no error")
	}
}
