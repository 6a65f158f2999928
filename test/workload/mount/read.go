// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// data is the link that an update of a Secret volume swaps.
const data = "..data"

// moves is how often the link may change during one Read. A volume changes every few seconds at most.
const moves = 10

// Read returns the named files of one version of the Secret that is mounted at dir.
//
// The folder of an old version is removed after the swap. If a file is missing because the link has changed meanwhile,
// Read starts over with the new folder; a file that is missing for another reason is an error.
func Read(dir string, names ...string) (map[string][]byte, error) {
	for range moves {
		target, err := os.Readlink(filepath.Join(dir, data))
		if err != nil {
			return nil, fmt.Errorf("finding the current version in the volume: %w", err)
		}
		files, err := readAll(filepath.Join(dir, target), names)
		if err == nil {
			return files, nil
		}
		if now, again := os.Readlink(filepath.Join(dir, data)); !errors.Is(err, fs.ErrNotExist) || again != nil || now == target {
			return nil, err
		}
	}
	return nil, fmt.Errorf("reading %s: it changed %d times during one read", dir, moves)
}

func readAll(dir string, names []string) (map[string][]byte, error) {
	files := make(map[string][]byte, len(names))
	for _, name := range names {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("reading a file of the volume: %w", err)
		}
		files[name] = text
	}
	return files, nil
}
