// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rekey/rekey/test/world"
)

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(world.Root(), name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var (
	target   = regexp.MustCompile(`(?m)^([a-z0-9./-]+):`)
	variable = regexp.MustCompile(`(?m)\$[({]([A-Z][A-Z0-9_]*)\b`)
	setting  = regexp.MustCompile(`^[A-Z][A-Z0-9_]*=`)
)

func TestEveryMakeTargetAndVariableOnAPageExists(t *testing.T) {
	makefile := read(t, "Makefile")
	var targets, variables []string
	for _, found := range target.FindAllStringSubmatch(makefile, -1) {
		targets = append(targets, found[1])
	}
	// Scripts that make calls read their environment.
	for _, script := range []string{makefile, read(t, "hack/undeploy.sh"), read(t, "hack/demo/options.go")} {
		for _, found := range variable.FindAllStringSubmatch(script, -1) {
			variables = append(variables, found[1])
		}
		for _, found := range regexp.MustCompile(`Getenv\("([A-Z_]+)"\)`).FindAllStringSubmatch(script, -1) {
			variables = append(variables, found[1])
		}
	}
	count := 0
	for _, one := range shell(t) {
		for _, command := range one.commands() {
			for part := range strings.SplitSeq(command, "&&") {
				words := strings.Fields(part)
				at := slices.IndexFunc(words, func(word string) bool { return !setting.MatchString(word) })
				if at < 0 || words[at] != "make" {
					continue
				}
				count++
				for _, word := range slices.Concat(words[:at], words[at+1:]) {
					name, _, isSetting := strings.Cut(word, "=")
					switch {
					case strings.HasPrefix(word, "-") || strings.Trim(word, `"`) != word:
					case isSetting && setting.MatchString(word) && !slices.Contains(variables, name):
						t.Errorf("%s: %s: make has no variable %s", one.page, command, name)
					case !isSetting && !slices.Contains(targets, word):
						t.Errorf("%s: %s: make has no target %s", one.page, command, word)
					}
				}
			}
		}
	}
	if count < 30 {
		t.Errorf("found only %d calls of make", count)
	}
}

var path = regexp.MustCompile("`((?:\\.ci|api|config|controllers|dist|docs|hack|internal|test)/[A-Za-z0-9_./-]+)`")

// made lists paths that a command on a page creates.
var made = []string{"dist/rekey.tar"}

func TestEveryPathOnAPageExists(t *testing.T) {
	root, count := world.Root(), 0
	for _, page := range markdown(t) {
		for _, found := range path.FindAllStringSubmatch(page.text, -1) {
			count++
			name := found[1]
			if slices.Contains(made, name) {
				continue
			}
			// A page of another module names that module's folders too.
			here, inside := filepath.Join(root, name), filepath.Join(root, "hack/localcluster", name)
			if _, err := os.Stat(here); err == nil {
				continue
			}
			if _, err := os.Stat(inside); err != nil {
				t.Errorf("%s names %s, which does not exist", page.page, name)
			}
		}
	}
	if count < 50 {
		t.Errorf("found only %d paths", count)
	}
}

func TestEveryGoCommandOnAPageNamesExistingPackagesAndTests(t *testing.T) {
	packages := regexp.MustCompile(`\./[a-z0-9/_.-]*`)
	run := regexp.MustCompile(`-run '?(\S+?)'?(?:\s|$)`)
	count := 0
	for _, one := range shell(t) {
		for _, command := range one.commands() {
			if !regexp.MustCompile(`(^|\s)go (-C \S+ )?(test|run|build) `).MatchString(command) {
				continue
			}
			count++
			folder := world.Root()
			if found := regexp.MustCompile(`go -C (\S+)`).FindStringSubmatch(command); found != nil {
				folder = filepath.Join(folder, found[1])
			}
			for _, name := range packages.FindAllString(command, -1) {
				files, err := filepath.Glob(filepath.Join(folder, strings.TrimSuffix(name, "/..."), "*.go"))
				if err != nil || len(files) == 0 {
					t.Errorf("%s: %s: %s holds no Go files", one.page, command, name)
				}
				if wanted := run.FindStringSubmatch(command); wanted != nil && !declared(t, files, wanted[1]) {
					t.Errorf("%s: %s: no test in %s has this name", one.page, command, name)
				}
			}
		}
	}
	if count < 10 {
		t.Errorf("found only %d go commands", count)
	}
}

// declared reports whether one of the files declares a test that the expression selects.
func declared(t *testing.T, files []string, expression string) bool {
	t.Helper()
	selects, tests := regexp.MustCompile(expression), regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, found := range tests.FindAllStringSubmatch(string(text), -1) {
			if selects.MatchString(found[1]) {
				return true
			}
		}
	}
	return false
}

func TestEveryEnvironmentVariableOfRekeyOnAPageIsRead(t *testing.T) {
	list := exec.Command("git", "grep", "-hoE", `REKEY_[A-Z_]+`, "--", "*.go", "*.sh", "Makefile")
	list.Dir = world.Root()
	read, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Fields(string(read))
	for _, page := range markdown(t) {
		for _, name := range regexp.MustCompile(`REKEY_[A-Z_]+`).FindAllString(page.text, -1) {
			if !slices.Contains(known, name) {
				t.Errorf("%s names %s, which nothing reads", page.page, name)
			}
		}
	}
}
