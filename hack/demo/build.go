// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"path/filepath"
)

// Images of the demo. The node loads them from an archive; no registry is involved.
const (
	operatorImage = "rekey.dev/rekey:demo"
	appImage      = "rekey.dev/demo-app:demo"
	serverImage   = "rekey.dev/demo-server:demo"
)

// programs are the binaries and archives that the demo builds, all in one folder.
type programs struct {
	source, dir string
}

// images maps binaries to their images.
var images = map[string]string{"rekey": operatorImage, "app": appImage, "server": serverImage}

func (p programs) binary(name string) string  { return filepath.Join(p.dir, name) }
func (p programs) archive(name string) string { return filepath.Join(p.dir, name+".tar") }

// build builds static binaries of a module's commands, each named after its folder.
func (p programs) build(ctx context.Context, progress *transcript, module string, commands ...string) error {
	args := append([]string{"build", "-v", "-trimpath", "-ldflags", "-s -w", "-o", p.dir + string(filepath.Separator)}, commands...)
	return work(ctx, filepath.Join(p.source, module), []string{"CGO_ENABLED=0"}, progress, progress, "go", args...)
}

// buildLauncher builds the programs that run the local cluster and pack images.
func (p programs) buildLauncher(ctx context.Context, progress *transcript) error {
	return p.build(ctx, progress, "hack/localcluster", "./cmd/localcluster", "./cmd/image")
}

// buildOurs builds the operator and the two programs of the demo.
func (p programs) buildOurs(ctx context.Context, progress *transcript) error {
	if err := p.build(ctx, progress, ".", "."); err != nil {
		return err
	}
	return p.build(ctx, progress, "hack/demo", "./app", "./server")
}

// load packs each program into an image and loads it into the node.
func (p programs) load(ctx context.Context, l launcher, progress *transcript) error {
	var archives []string
	for name, image := range images {
		err := work(ctx, p.source, nil, progress, progress, p.binary("image"),
			"--out", p.archive(name), "--name", image, "--binary", p.binary(name), "--entrypoint", "/"+name)
		if err != nil {
			return err
		}
		archives = append(archives, p.archive(name))
	}
	return work(ctx, p.source, nil, progress, progress, l.binary, l.args("load", archives...)...)
}
