// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package mount_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/test/workload/mount"
)

func files(version int) map[string][]byte {
	text := []byte(strconv.Itoa(version))
	return map[string][]byte{"tls.crt": text, "tls.key": text, "ca.crt": text}
}

func TestFilesOfOneReadBelongToOneVersionWhileTheVolumeChanges(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "volume")
	if err := mount.Write(dir, files(0)); err != nil {
		t.Fatal(err)
	}
	const versions = 300
	written := make(chan error, 1)
	go func() {
		for v := 1; v <= versions; v++ {
			if err := mount.Write(dir, files(v)); err != nil {
				written <- err
				return
			}
		}
		written <- nil
	}()
	for reads := 0; ; reads++ {
		got, err := mount.Read(dir, "tls.crt", "tls.key", "ca.crt")
		if err != nil {
			t.Fatalf("read %d: %v", reads, err)
		}
		if string(got["tls.crt"]) != string(got["tls.key"]) || string(got["tls.crt"]) != string(got["ca.crt"]) {
			t.Fatalf("read %d is torn: %q", reads, got)
		}
		select {
		case err := <-written:
			if err != nil {
				t.Fatal(err)
			}
			last, err := mount.Read(dir, "tls.crt")
			if err != nil || string(last["tls.crt"]) != strconv.Itoa(versions) {
				t.Fatalf("the last version is not what is read: %q, %v", last, err)
			}
			return
		default:
		}
	}
}

func TestFilesReadByTheirNamesAreThoseOfTheCurrentVersion(t *testing.T) {
	dir := t.TempDir()
	for v := range 3 {
		if err := mount.Write(dir, files(v)); err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(dir, "tls.key"))
		if diff := cmp.Diff(strconv.Itoa(v), string(got)); diff != "" || err != nil {
			t.Errorf("version %d: %v\n%s", v, err, diff)
		}
	}
	folders, err := filepath.Glob(filepath.Join(dir, "..version-*"))
	if err != nil || len(folders) != 1 {
		t.Errorf("old versions remain: %q, %v", folders, err)
	}
}

func TestAFileThatTheSecretDoesNotHaveIsAnErrorAndNotAnEndlessLoop(t *testing.T) {
	dir := t.TempDir()
	if err := mount.Write(dir, files(1)); err != nil {
		t.Fatal(err)
	}
	if _, err := mount.Read(dir, "password"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist for the file", err)
	}
	if _, err := mount.Read(t.TempDir(), "password"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want fs.ErrNotExist for the volume", err)
	}
}
