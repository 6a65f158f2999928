// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package reliability

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// resultsFile holds the recorded results of each class. Its path is relative to the root of the repository.
const resultsFile = "test/reliability/results.json"

// Seen is what one run found for a class: how many of how many succeeded, on which day, at which commit.
type Seen struct {
	Date   string `json:"date"`
	Commit string `json:"commit"`
	Good   int    `json:"good"`
	Of     int    `json:"of"`
}

// Result is the last recorded result of a class: tests that passed, breaks that were caught.
type Result struct {
	Tests  *Seen `json:"tests,omitempty"`
	Breaks *Seen `json:"breaks,omitempty"`
}

// Results reads the recorded results of each class. Without a file there are none.
func Results(root string) (map[string]Result, error) {
	out := map[string]Result{}
	text, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(resultsFile)))
	if errors.Is(err, fs.ErrNotExist) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(text, &out); err != nil {
		return nil, fmt.Errorf("%s: %w", resultsFile, err)
	}
	return out, nil
}

// Record stores the results of some classes. It keeps those of other classes, and those that the run did not produce.
func Record(root string, seen map[string]Result) error {
	all, err := Results(root)
	if err != nil {
		return err
	}
	for class, one := range seen {
		now := all[class]
		if one.Tests != nil {
			now.Tests = one.Tests
		}
		if one.Breaks != nil {
			now.Breaks = one.Breaks
		}
		all[class] = now
	}
	text, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, filepath.FromSlash(resultsFile)), append(text, '\n'), 0o644)
}

// String returns the line for the page; empty if there is no result.
func (r Result) String() string {
	var tests, breaks string
	if r.Tests != nil {
		tests = fmt.Sprintf("%d of %d tests passed", r.Tests.Good, r.Tests.Of)
	}
	if r.Breaks != nil {
		breaks = fmt.Sprintf("%d of %d breaks caught", r.Breaks.Good, r.Breaks.Of)
	}
	if r.Tests != nil && r.Breaks != nil && r.Tests.where() == r.Breaks.where() {
		return fmt.Sprintf("%s: %s, %s.", r.Tests.where(), tests, breaks)
	}
	var out []string
	if r.Tests != nil {
		out = append(out, r.Tests.where()+": "+tests+".")
	}
	if r.Breaks != nil {
		out = append(out, r.Breaks.where()+": "+breaks+".")
	}
	return strings.Join(out, " ")
}

func (s *Seen) where() string { return "Seen " + s.Date + " at " + s.Commit }
