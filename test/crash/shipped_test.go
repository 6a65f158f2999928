// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rekey/rekey/internal/failpoint"
	"github.com/rekey/rekey/test/world"
)

// shippedFlags reads from the Makefile how the binary is built that is shipped.
func shippedFlags(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(world.Root(), "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(text), "CGO_ENABLED=0 go build -trimpath -ldflags '-s -w")
	line, _, _ := strings.Cut(after, "\n")
	if !found || strings.Contains(line, "-tags") || !strings.HasSuffix(line, " -o $(BIN)/rekey .") {
		t.Fatalf("the Makefile builds the operator otherwise than this test: %q", line)
	}
	return []string{"-trimpath", "-ldflags", "-s -w -X main.version=test"}
}

// marks are what a binary with failpoints cannot hide: the variables, a word of the trace, the package, the tag.
func marks() [][]byte {
	return [][]byte{[]byte(failpoint.VariablePoint), []byte(failpoint.VariableTrace), []byte(failpoint.Died), []byte("internal/failpoint"), []byte("failpoints")}
}

func TestTheShippedBinaryHasNoFailpoints(t *testing.T) {
	dir := t.TempDir()
	for name, tags := range map[string]string{"shipped": "", "armed": "failpoints"} {
		binary := filepath.Join(dir, name)
		args := slices.Concat([]string{"build"}, shippedFlags(t), []string{"-tags", tags, "-o", binary, "."})
		t.Setenv("CGO_ENABLED", "0")
		if _, err := work(t.Context(), "go", args...); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		packages, err := work(t.Context(), "go", "list", "-deps", "-tags", tags, ".")
		if err != nil {
			t.Fatal(err)
		}
		has := strings.Contains(packages, "rekey/internal/failpoint")
		if has != (tags != "") {
			t.Errorf("%s: the package of the failpoints is linked: %t", name, has)
		}
		for _, mark := range marks() {
			if found := bytes.Contains(content, mark); found != (tags != "") {
				t.Errorf("%s: %q is in the binary: %t", name, mark, found)
			}
		}
	}
}
