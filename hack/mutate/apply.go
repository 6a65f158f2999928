// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rekey/rekey/test/reliability"
)

// overlay writes the broken file and the compiler's overlay file to a folder outside the repository.
func overlay(root, folder string, one reliability.Break) (string, error) {
	file, err := filepath.Abs(filepath.Join(root, filepath.FromSlash(one.File)))
	if err != nil {
		return "", err
	}
	text, err := changed(root, one)
	if err != nil {
		return "", err
	}
	instead, err := json.Marshal(map[string]map[string]string{"Replace": {file: filepath.Join(folder, filepath.Base(file))}})
	if err != nil {
		return "", err
	}
	name := filepath.Join(folder, "overlay.json")
	return name, errors.Join(os.WriteFile(filepath.Join(folder, filepath.Base(file)), text, 0o644), os.WriteFile(name, instead, 0o644))
}

// changed returns the file's text with the break applied.
func changed(root string, one reliability.Break) ([]byte, error) {
	source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(one.File)))
	if err != nil {
		return nil, err
	}
	text, err := one.Apply(string(source))
	return []byte(text), err
}

// built are the folders of the repository with build results. A copy links to them.
var built = []string{".cache", "bin"}

// replica copies the repository and applies the break: an overlay cannot replace files that the compiler does not read,
// such as manifests.
func replica(root, folder string, one reliability.Break) error {
	root, err := filepath.Abs(root)
	if err != nil {
		return err
	}
	err = filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		return copyEntry(path, filepath.Join(folder, name), name, entry)
	})
	if err != nil {
		return err
	}
	text, err := changed(root, one)
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, filepath.FromSlash(one.File)), text, 0o644)
}

// copyEntry copies one file or folder, without archives and the git folder.
func copyEntry(path, copied, name string, entry fs.DirEntry) error {
	switch {
	case name == ".git":
		return skip(entry)
	case slices.Contains(built, name):
		if err := os.Symlink(path, copied); err != nil {
			return err
		}
		return skip(entry)
	case entry.IsDir():
		return os.MkdirAll(copied, 0o755)
	case !entry.Type().IsRegular() || strings.HasSuffix(name, ".tar"):
		return nil
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	return os.WriteFile(copied, text, info.Mode().Perm())
}

// skip skips the contents of a folder. For a file it returns nil: fs.SkipDir would skip the rest of its folder.
func skip(entry fs.DirEntry) error {
	if entry.IsDir() {
		return fs.SkipDir
	}
	return nil
}
