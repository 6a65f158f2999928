// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// compile builds a small binary; the variable decides how it is linked.
func compile(t *testing.T, dir string, args ...string) string {
	t.Helper()
	source := filepath.Join(dir, "main.go")
	if err := os.WriteFile(source, []byte("package main\n\nfunc main() {}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "program")
	cmd := exec.CommandContext(t.Context(), "go", append(append([]string{"build"}, args...), "-o", binary, source)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("compiling: %v\n%s", err, out)
	}
	return binary
}

func TestAnImageHoldsTheBinaryAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	certs := filepath.Join(dir, "certs.pem")
	if err := os.WriteFile(certs, []byte("trusted"), 0o600); err != nil {
		t.Fatal(err)
	}
	spec := Spec{Name: "rekey.dev/it:dev", Binary: compile(t, dir), Entrypoint: "/usr/bin/it", User: "65532:65532", CACerts: certs}
	first, second := filepath.Join(dir, "1.tar"), filepath.Join(dir, "2.tar")
	for _, out := range []string{first, second} {
		if err := Write(spec, out); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(read(t, first), read(t, second)) {
		t.Error("the same input produced two different archives")
	}

	tag, err := name.NewTag(spec.Name)
	if err != nil {
		t.Fatal(err)
	}
	img, err := tarball.ImageFromPath(first, &tag)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"/usr/bin/it"}, config.Config.Entrypoint); diff != "" {
		t.Errorf("entrypoint (-want +got):\n%s", diff)
	}
	if config.Config.User != "65532:65532" || config.OS != "linux" {
		t.Errorf("user %q on %q, want 65532:65532 on linux", config.Config.User, config.OS)
	}
	layers, err := img.Layers()
	if err != nil || len(layers) != 1 {
		t.Fatalf("%d layers (%v), want one", len(layers), err)
	}
	content, err := layers[0].Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"usr/ 755", "usr/bin/ 755", "usr/bin/it 755", "etc/ 755", "etc/ssl/ 755", "etc/ssl/certs/ 755", "etc/ssl/certs/ca-certificates.crt 644"}
	if diff := cmp.Diff(want, names(t, content)); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
}

func TestABinaryThatCannotRunInAnImageIsRefused(t *testing.T) {
	dir := t.TempDir()
	static := compile(t, dir)
	text := filepath.Join(dir, "text")
	if err := os.WriteFile(text, []byte("#!/bin/sh"), 0o600); err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		spec Spec
		want string
	}{
		"a binary that needs a loader":    {Spec{Name: "rekey.dev/it:dev", Binary: compile(t, t.TempDir(), "-buildmode=pie"), Entrypoint: "/it"}, "CGO_ENABLED=0"},
		"a script":                        {Spec{Name: "rekey.dev/it:dev", Binary: text, Entrypoint: "/it"}, "not a Linux binary"},
		"a relative entrypoint":           {Spec{Name: "rekey.dev/it:dev", Binary: static, Entrypoint: "it"}, "absolute path"},
		"an entrypoint outside the image": {Spec{Name: "rekey.dev/it:dev", Binary: static, Entrypoint: "/a/../it"}, "clean"},
		"an invalid name":                 {Spec{Name: "Rekey Dev", Binary: static, Entrypoint: "/it"}, "name"},
		"a name without a tag":            {Spec{Name: "rekey.dev/it", Binary: static, Entrypoint: "/it"}, "name"},
		"a missing bundle of CAs":         {Spec{Name: "rekey.dev/it:dev", Binary: static, Entrypoint: "/it", CACerts: "/none"}, "/none"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			out := filepath.Join(t.TempDir(), "image.tar")
			if err := Write(tc.spec, out); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
			if _, err := os.Stat(out); !os.IsNotExist(err) {
				t.Errorf("an archive was written anyway: %v", err)
			}
		})
	}
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func names(t *testing.T, content io.Reader) []string {
	t.Helper()
	var found []string
	for archive := tar.NewReader(content); ; {
		header, err := archive.Next()
		if err == io.EOF {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if header.ModTime.Unix() != 0 {
			t.Errorf("%s has the time %s", header.Name, header.ModTime)
		}
		found = append(found, header.Name+" "+map[int64]string{0o755: "755", 0o644: "644"}[header.Mode])
	}
}
