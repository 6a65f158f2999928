// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

func main() {
	var o options
	flag.BoolVar(&o.count, "count", false, "print how many findings each folder has instead of the findings")
	flag.Parse()
	o.only = flag.Args()
	report, status := run(".", o)
	fmt.Print(report)
	os.Exit(status)
}

// options are what the command line selects.
type options struct {
	count bool
	only  []string
}

// run checks the tree at root and returns what to print and the exit status.
func run(root string, o options) (string, int) {
	table, err := load()
	if err != nil {
		return err.Error() + "\n", 2
	}
	known, err := list(root)
	if err != nil {
		return err.Error() + "\n", 2
	}
	readable := slices.DeleteFunc(known, func(path string) bool { return kindOf(path) == unknown || table.skips(path) })
	var findings []finding
	checked := 0
	for _, path := range readable {
		if !o.selects(path) {
			continue
		}
		checked++
		text, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			return err.Error() + "\n", 2
		}
		findings = append(findings, table.check(path, text)...)
	}
	var out strings.Builder
	if o.count {
		out.WriteString(counts(findings))
	} else {
		for _, f := range findings {
			out.WriteString(f.String() + "\n")
		}
	}
	fmt.Fprintf(&out, "words: %d of %d files checked, %d findings\n", checked, len(readable), len(findings))
	return out.String(), min(len(findings), 1)
}

// selects reports whether a file is to be checked.
func (o options) selects(path string) bool { return len(o.only) == 0 || below(path, o.only) }

// list returns the files that git knows or would add, as paths relative to root.
func list(root string) ([]string, error) {
	command := exec.Command("git", "-C", root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	command.Stderr = os.Stderr
	names, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("listing the files that git knows: %w", err)
	}
	var files []string
	for name := range bytes.SplitSeq(names, []byte{0}) {
		info, err := os.Lstat(filepath.Join(root, string(name)))
		if len(name) > 0 && err == nil && info.Mode().IsRegular() {
			files = append(files, string(name))
		}
	}
	slices.Sort(files)
	return files, nil
}

// below reports whether path is one of the prefixes or lies in a folder that is one.
func below(path string, prefixes []string) bool {
	for _, prefix := range prefixes {
		prefix = strings.TrimSuffix(prefix, "/")
		if path == prefix || strings.HasPrefix(path, prefix+"/") || prefix == "." {
			return true
		}
	}
	return false
}

// counts returns how many findings each folder has, most first.
func counts(findings []finding) string {
	number := map[string]int{}
	for _, f := range findings {
		number[filepath.Dir(f.path)]++
	}
	folders := slices.Sorted(maps.Keys(number))
	slices.SortStableFunc(folders, func(a, b string) int { return number[b] - number[a] })
	var out strings.Builder
	for _, folder := range folders {
		fmt.Fprintf(&out, "%5d %s\n", number[folder], folder)
	}
	return out.String()
}
