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

// read gives a file of the project.
func read(t *testing.T, path ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(append([]string{world.Root()}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// shippedFlags reads from the Makefile how the binary is built that is shipped.
func shippedFlags(t *testing.T) []string {
	t.Helper()
	_, after, found := strings.Cut(read(t, "Makefile"), "CGO_ENABLED=0 go build -trimpath -ldflags '-s -w")
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

// Whoever builds what is shipped builds it as the test below does.
func TestNothingThatIsShippedIsBuiltWithFailpoints(t *testing.T) {
	flags := shippedFlags(t)
	image := read(t, "Dockerfile")
	if want := "go build " + flags[0] + " -ldflags \"-s -w -X main.version=${VERSION}\" -o /out/rekey .\n"; !strings.Contains(image, want) ||
		strings.Count(image, "go build") != 1 || !strings.Contains(image, "COPY --from=build /out/rekey /rekey\n") {
		t.Errorf("the Dockerfile builds the operator otherwise than with %q, or ships something else", want)
	}
	if recipe := read(t, "Makefile"); !strings.Contains(recipe, "\nimage: build ") || !strings.Contains(recipe, " --binary $(BIN)/rekey ") {
		t.Error("the image of the Makefile is made of something else than what `build` makes")
	}
	scripts, err := filepath.Glob(filepath.Join(world.Root(), "hack", "*.sh"))
	if err != nil || len(scripts) == 0 {
		t.Fatalf("there are no scripts: %v", err)
	}
	files := []string{"Dockerfile", "Makefile", filepath.Join(".ci", "run")}
	for _, script := range scripts {
		files = append(files, filepath.Join("hack", filepath.Base(script)))
	}
	for _, file := range files {
		text := read(t, file)
		for _, word := range []string{"failpoints", "GOFLAGS=-tags"} {
			if strings.Contains(text, word) {
				t.Errorf("%s speaks of %s: what is shipped must not be built so", file, word)
			}
		}
		if script := strings.HasSuffix(file, ".sh"); script && strings.Contains(text, "go build") {
			t.Errorf("%s builds a binary: say here how", file)
		}
	}
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
