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

// Write updates dir as a kubelet updates a Secret volume: it creates a new folder, swaps the link ..data, and removes the
// old folder. It must not be called concurrently for one dir.
func Write(dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("creating the volume's folder: %w", err)
	}
	version, err := os.MkdirTemp(dir, "..version-")
	if err != nil {
		return fmt.Errorf("creating the folder of a version: %w", err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(version, name), text, 0o400); err != nil {
			return fmt.Errorf("writing a file of the volume: %w", err)
		}
	}
	old, err := os.Readlink(filepath.Join(dir, data))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("finding the previous version: %w", err)
	}
	if err := swap(dir, filepath.Base(version)); err != nil {
		return err
	}
	for name := range files {
		if err := os.Symlink(filepath.Join(data, name), filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrExist) {
			return fmt.Errorf("linking a file of the volume: %w", err)
		}
	}
	if old == "" {
		return nil
	}
	if err := os.RemoveAll(filepath.Join(dir, old)); err != nil {
		return fmt.Errorf("removing the previous version: %w", err)
	}
	return nil
}

// swap points ..data to the version atomically.
func swap(dir, version string) error {
	next := filepath.Join(dir, data+"_next")
	if err := os.Symlink(version, next); err != nil {
		return fmt.Errorf("preparing the swap of the volume: %w", err)
	}
	if err := os.Rename(next, filepath.Join(dir, data)); err != nil {
		return fmt.Errorf("swapping the volume to its new version: %w", err)
	}
	return nil
}
