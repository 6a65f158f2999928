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

// overlay writes the broken file, and what tells the compiler to take it, into a folder outside of the repository.
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

// changed is the text of the file with the mistake in it.
func changed(root string, one reliability.Break) ([]byte, error) {
	source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(one.File)))
	if err != nil {
		return nil, err
	}
	text, err := one.Apply(string(source))
	return []byte(text), err
}

// built are the folders of a repository that hold what was built there. A copy has links to them.
var built = []string{".cache", "bin"}

// replica copies the repository, with the mistake in it: the compiler cannot be handed another version of what it does not
// read, such as a manifest.
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
		return imitate(path, filepath.Join(folder, name), name, entry)
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

// imitate makes one file or folder of the copy. Archives and what git keeps are no part of it.
func imitate(path, copied, name string, entry fs.DirEntry) error {
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

// skip leaves out what is in a folder. Of a file nothing is left out; fs.SkipDir would leave out its neighbours.
func skip(entry fs.DirEntry) error {
	if entry.IsDir() {
		return fs.SkipDir
	}
	return nil
}
