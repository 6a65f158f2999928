// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package assets

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rekey/rekey/hack/localcluster/internal/image"
	"github.com/rekey/rekey/hack/localcluster/internal/node"
)

// PauseImage builds the archive of the pause image. It does so on every call:
// that takes well under a second once Go has compiled it, and is never stale.
func (b Builder) PauseImage(ctx context.Context) (string, error) {
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return "", fmt.Errorf("creating the cache folder: %w", err)
	}
	temp, err := os.MkdirTemp(b.Cache, ".pause-")
	if err != nil {
		return "", fmt.Errorf("creating a folder for the pause program: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }()
	binary := filepath.Join(temp, "pause")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", binary, "./cmd/pause")
	cmd.Dir = b.Source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOWORK=off")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the pause program: %w: %s", err, out)
	}
	archive := filepath.Join(b.Cache, "pause.tar")
	return archive, image.Write(image.Spec{
		Name: node.PauseImage, Binary: binary, Entrypoint: "/pause", User: "65535:65535",
	}, archive)
}
