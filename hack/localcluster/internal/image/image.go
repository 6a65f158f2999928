// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// Spec describes an image.
type Spec struct {
	// Name is the full name with a tag, such as rekey.dev/rekey:dev.
	Name string
	// Binary is the file that becomes Entrypoint.
	Binary string
	// Entrypoint is an absolute path in the image.
	Entrypoint string
	// User is `uid:gid`.
	User string
	// CACerts, if set, is the bundle of CAs that the image trusts.
	CACerts string
}

// caPath is where Go and OpenSSL find trusted CAs on Debian.
const caPath = "/etc/ssl/certs/ca-certificates.crt"

// Write writes the image as an archive that `ctr images import` and `docker
// load` understand.
func Write(spec Spec, out string) error {
	tag, err := name.NewTag(spec.Name, name.StrictValidation)
	if err != nil {
		return fmt.Errorf("reading the image's name: %w", err)
	}
	img, err := build(spec)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(out), 0o755); err != nil {
		return fmt.Errorf("creating the archive's folder: %w", err)
	}
	temp := fmt.Sprintf("%s.%d", out, os.Getpid())
	defer func() { _ = os.Remove(temp) }() // fails once it is renamed
	if err := tarball.WriteToFile(temp, tag, img); err != nil {
		return fmt.Errorf("writing the archive: %w", err)
	}
	if err := os.Rename(temp, out); err != nil {
		return fmt.Errorf("putting the archive in place: %w", err)
	}
	return nil
}

func build(spec Spec) (v1.Image, error) {
	machine, err := staticFor(spec.Binary)
	if err != nil {
		return nil, err
	}
	content, err := layer(spec)
	if err != nil {
		return nil, err
	}
	opened := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	files, err := tarball.LayerFromOpener(opened)
	if err != nil {
		return nil, fmt.Errorf("creating the layer: %w", err)
	}
	img, err := mutate.AppendLayers(empty.Image, files)
	if err != nil {
		return nil, fmt.Errorf("adding the layer: %w", err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, fmt.Errorf("reading the image's configuration: %w", err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", machine
	config.Created = v1.Time{Time: epoch}
	config.Config.Entrypoint = []string{spec.Entrypoint}
	config.Config.User = spec.User
	config.Config.WorkingDir = "/"
	config.Config.Env = []string{"PATH=/"}
	img, err = mutate.ConfigFile(img, config)
	if err != nil {
		return nil, fmt.Errorf("configuring the image: %w", err)
	}
	return img, nil
}

// epoch is the time of everything in an image.
var epoch = time.Unix(0, 0).UTC()

// layer returns the content of the image as a tar archive.
func layer(spec Spec) ([]byte, error) {
	if !path.IsAbs(spec.Entrypoint) || path.Clean(spec.Entrypoint) != spec.Entrypoint {
		return nil, fmt.Errorf("the entrypoint %q is not a clean absolute path", spec.Entrypoint)
	}
	files := []struct {
		from, to string
		mode     int64
	}{{spec.Binary, spec.Entrypoint, 0o755}}
	if spec.CACerts != "" {
		files = append(files, struct {
			from, to string
			mode     int64
		}{spec.CACerts, caPath, 0o644})
	}
	var out bytes.Buffer
	archive := tar.NewWriter(&out)
	folders := map[string]bool{}
	for _, file := range files {
		if err := addFolders(archive, folders, path.Dir(file.to)); err != nil {
			return nil, err
		}
		data, err := os.ReadFile(file.from)
		if err != nil {
			return nil, fmt.Errorf("reading what goes into the image: %w", err)
		}
		header := &tar.Header{Typeflag: tar.TypeReg, Name: strings.TrimPrefix(file.to, "/"),
			Mode: file.mode, Size: int64(len(data)), ModTime: epoch}
		if err := errors.Join(archive.WriteHeader(header), write(archive, data)); err != nil {
			return nil, fmt.Errorf("adding %s: %w", file.to, err)
		}
	}
	if err := archive.Close(); err != nil {
		return nil, fmt.Errorf("finishing the layer: %w", err)
	}
	return out.Bytes(), nil
}

func addFolders(archive *tar.Writer, done map[string]bool, dir string) error {
	if dir == "/" || done[dir] {
		return nil
	}
	if err := addFolders(archive, done, path.Dir(dir)); err != nil {
		return err
	}
	done[dir] = true
	header := &tar.Header{Typeflag: tar.TypeDir, Name: strings.TrimPrefix(dir, "/") + "/", Mode: 0o755, ModTime: epoch}
	if err := archive.WriteHeader(header); err != nil {
		return fmt.Errorf("adding %s: %w", dir, err)
	}
	return nil
}

func write(to io.Writer, data []byte) error {
	_, err := to.Write(data)
	return err
}

// staticFor rejects a binary that needs a loader or libraries, as the image has
// none: in a pod that shows only as "no such file or directory". It returns the
// architecture by its Go name.
func staticFor(binary string) (string, error) {
	file, err := elf.Open(binary)
	if err != nil {
		return "", fmt.Errorf("%s is not a Linux binary: %w", binary, err)
	}
	defer func() { _ = file.Close() }()
	for _, prog := range file.Progs {
		if prog.Type == elf.PT_INTERP {
			return "", fmt.Errorf("%s is linked dynamically; build it with CGO_ENABLED=0", binary)
		}
	}
	switch file.Machine {
	case elf.EM_X86_64:
		return "amd64", nil
	case elf.EM_AARCH64:
		return "arm64", nil
	}
	return "", fmt.Errorf("%s is for %v, which is not supported here", binary, file.Machine)
}
