// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package gotest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/rekey/rekey/test/reliability"
)

// packages is the prefix of the repository's packages.
const packages = "github.com/rekey/rekey/"

// Stages reads the files that hack/test.sh left of each stage's last run. It returns the test results by package, relative
// to the root, and the date and commit by stage.
func Stages(folder string) (map[string]Result, map[string]reliability.Seen, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*-*.json"))
	if err != nil {
		return nil, nil, err
	}
	if len(files) == 0 {
		return nil, nil, fmt.Errorf("no results yet: %s is empty; run make test and make crash", folder)
	}
	results, seen := map[string]Result{}, map[string]reliability.Seen{}
	for _, path := range files {
		stage, _, _ := strings.Cut(filepath.Base(path), "-")
		if _, known := seen[stage]; !known {
			if seen[stage], err = stageSeen(folder, stage); err != nil {
				return nil, nil, err
			}
		}
		if err := readStage(path, results); err != nil {
			return nil, nil, err
		}
	}
	return results, seen, nil
}

// stageSeen reads the commit that hack/test.sh recorded when the stage started; the file's time is the date.
func stageSeen(folder, stage string) (reliability.Seen, error) {
	path := filepath.Join(folder, stage+".commit")
	text, err := os.ReadFile(path)
	if err != nil {
		return reliability.Seen{}, fmt.Errorf("finding the commit of stage %s: %w", stage, err)
	}
	about, err := os.Stat(path)
	if err != nil {
		return reliability.Seen{}, err
	}
	return reliability.Seen{Date: about.ModTime().UTC().Format(time.DateOnly), Commit: strings.TrimSpace(string(text))}, nil
}

// readStage adds the results in a file of go test -json by package.
func readStage(path string, results map[string]Result) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	lines := bufio.NewReader(file)
	for {
		line, err := lines.ReadBytes('\n')
		var e event
		if json.Unmarshal(line, &e) == nil {
			if inside, ok := strings.CutPrefix(e.Package, packages); ok {
				one := results["./"+inside]
				// A package that failed although none of its tests did proves nothing.
				one.Broken = one.add(e, &strings.Builder{}, &strings.Builder{}) && len(one.Failed) == 0 || one.Broken
				results["./"+inside] = one
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", path, err)
		}
	}
}
