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

// readFile returns a file of the project.
func readFile(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{world.Root()}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// shippedFlags reads from the Makefile how the shipped binary is built.
func shippedFlags(t *testing.T) []string {
	t.Helper()
	_, after, found := strings.Cut(readFile(t, "Makefile"), "CGO_ENABLED=0 go build -trimpath -ldflags '-s -w")
	line, _, _ := strings.Cut(after, "\n")
	if !found || strings.Contains(line, "-tags") || !strings.HasSuffix(line, " -o $(BIN)/rekey .") {
		t.Fatalf("the Makefile builds the operator with flags other than this test's: %q", line)
	}
	return []string{"-trimpath", "-ldflags", "-s -w -X main.version=test"}
}

// failpointTraces are what a binary with failpoints cannot hide: the variables, a word of the trace, the package, the tag.
func failpointTraces() [][]byte {
	return [][]byte{[]byte(failpoint.VariablePoint), []byte(failpoint.VariableTrace), []byte(failpoint.Died), []byte("internal/failpoint"), []byte("failpoints")}
}

// Everything that builds the shipped binary builds it as the test below does.
func TestShippedBinariesAreBuiltWithoutFailpoints(t *testing.T) {
	flags := shippedFlags(t)
	image := readFile(t, "Dockerfile")
	if want := "go build " + flags[0] + " -ldflags \"-s -w -X main.version=${VERSION}\" -o /out/rekey .\n"; !strings.Contains(image, want) ||
		strings.Count(image, "go build") != 1 || !strings.Contains(image, "COPY --from=build /out/rekey /rekey\n") {
		t.Errorf("the Dockerfile does not build the operator with %q, or ships something else", want)
	}
	if recipe := readFile(t, "Makefile"); !strings.Contains(recipe, "\nimage: build ") || !strings.Contains(recipe, " --binary $(BIN)/rekey ") {
		t.Error("the Makefile's image target does not use the output of `build`")
	}
	scripts, err := filepath.Glob(filepath.Join(world.Root(), "hack", "*.sh"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("found no scripts: %v", err)
	}
	files := []string{"Dockerfile", "Makefile", filepath.Join(".ci", "run")}
	for _, script := range scripts {
		files = append(files, filepath.Join("hack", filepath.Base(script)))
	}
	for _, file := range files {
		text := readFile(t, file)
		for _, word := range []string{"failpoints", "GOFLAGS=-tags"} {
			if strings.Contains(text, word) {
				t.Errorf("%s mentions %s: shipped binaries must not be built with it", file, word)
			}
		}
		if script := strings.HasSuffix(file, ".sh"); script && strings.Contains(text, "go build") {
			t.Errorf("%s builds a binary: add its build command to this test", file)
		}
	}
}

func TestTheShippedBinaryHasNoFailpoints(t *testing.T) {
	dir := t.TempDir()
	for name, tags := range map[string]string{"shipped": "", "armed": "failpoints"} {
		binary := filepath.Join(dir, name)
		args := slices.Concat([]string{"build"}, shippedFlags(t), []string{"-tags", tags, "-o", binary, "."})
		t.Setenv("CGO_ENABLED", "0")
		if _, err := runProgram(t.Context(), "go", args...); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(binary)
		if err != nil {
			t.Fatal(err)
		}
		packages, err := runProgram(t.Context(), "go", "list", "-deps", "-tags", tags, ".")
		if err != nil {
			t.Fatal(err)
		}
		has := strings.Contains(packages, "rekey/internal/failpoint")
		if has != (tags != "") {
			t.Errorf("%s: the failpoint package is linked: %t", name, has)
		}
		for _, mark := range failpointTraces() {
			if found := bytes.Contains(content, mark); found != (tags != "") {
				t.Errorf("%s: %q is in the binary: %t", name, mark, found)
			}
		}
	}
}
