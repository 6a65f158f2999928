// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package results

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// Read reads a run.
func Read(path string) (Run, error) {
	var run Run
	text, err := os.ReadFile(path)
	if err != nil {
		return run, fmt.Errorf("reading results: %w", err)
	}
	if err := json.Unmarshal(text, &run); err != nil {
		return run, fmt.Errorf("reading results in %s: %w", path, err)
	}
	return run, nil
}

// Write writes a run.
func Write(run Run, path string) error {
	text, err := json.MarshalIndent(run, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding results: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("writing results: %w", err)
	}
	return os.WriteFile(path, append(text, '\n'), 0o644)
}

// Publish writes page, picture and numbers of a full run into the folder.
func Publish(run Run, folder string) error {
	if run.Size != Full || run.Database == nil || len(run.in(true)) < 2 || len(run.in(false)) < 2 {
		return errors.New("publishing results: the run is not a full and complete one: run make bench")
	}
	return errors.Join(
		Write(run, filepath.Join(folder, "benchmarks.json")),
		os.WriteFile(filepath.Join(folder, "benchmarks.md"), Page(run), 0o644),
		os.WriteFile(filepath.Join(folder, PictureFile), Picture(Charts(run)...), 0o644),
	)
}
