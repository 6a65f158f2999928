// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package gotest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// assets is the variable that names the folder with the programs of an API server.
const assets = "KUBEBUILDER_ASSETS"

// Environment returns the variables that the repository's tests need: the local Kubernetes, built if it is missing, and the
// short size of the tests that have two.
func Environment(ctx context.Context, root string) ([]string, error) {
	var out []string
	if os.Getenv("REKEY_SIZE") == "" {
		out = append(out, "REKEY_SIZE=short")
	}
	launcher := filepath.Join(root, "hack", "localcluster")
	if _, err := os.Stat(launcher); err != nil || os.Getenv(assets) != "" {
		return out, nil //nolint:nilerr // a module without a launcher has no test that needs it
	}
	cmd := exec.CommandContext(ctx, "go", "run", "./cmd/localcluster", "assets")
	cmd.Dir, cmd.Stderr = launcher, os.Stderr
	folder, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("building the local Kubernetes: %w", err)
	}
	return append(out, assets+"="+strings.TrimSpace(string(folder))), nil
}
