// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package gotest

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/rekey/rekey/test/reliability"
)

// CurrentCommit returns today's date and the current commit, for recording results. It marks a product with uncommitted changes;
// changes of documentation do not count.
func CurrentCommit(ctx context.Context, root string) (reliability.Seen, error) {
	commit, err := git(ctx, root, "rev-parse", "--short", "HEAD")
	if err != nil {
		return reliability.Seen{}, err
	}
	changes, err := git(ctx, root, "status", "--porcelain", "--", ".", ":!docs", ":!*.md", ":!test/reliability/results.json")
	if err != nil {
		return reliability.Seen{}, err
	}
	if changes != "" {
		commit += " with changes"
	}
	return reliability.Seen{Date: time.Now().UTC().Format(time.DateOnly), Commit: commit}, nil
}

func git(ctx context.Context, root string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("finding the current commit (git %s): %w", args[0], err)
	}
	return strings.TrimSpace(string(out)), nil
}
