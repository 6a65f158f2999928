// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package assets

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// fakeGo replaces the Go command: it records each build and creates the file,
// after a moment in which a second caller could start.
const fakeGo = `#!/bin/sh
case "$1" in
env) echo "go1.99 linux amd64" ;;
build)
	echo "$*" >>"$FAKE_GO_DIR/builds"
	sleep 0.3
	if [ -e "$FAKE_GO_DIR/broken" ]; then echo "does not compile" >&2; exit 1; fi
	while [ "$1" != -o ]; do shift; done
	echo binary >"$2"
	;;
esac
`

// newBuilder returns a builder with its own source tree and Go command.
func newBuilder(t *testing.T) (Builder, string) {
	t.Helper()
	dir := t.TempDir()
	t.Setenv(EnvDir, "")
	t.Setenv("FAKE_GO_DIR", dir)
	t.Setenv("PATH", filepath.Join(dir, "bin")+":"+os.Getenv("PATH"))
	put(t, filepath.Join(dir, "bin", "go"), fakeGo)
	put(t, filepath.Join(dir, "src", "go.mod"), "module x\n\nrequire (\n\tk8s.io/kubernetes v1.2.3\n)\n")
	put(t, filepath.Join(dir, "src", "go.sum"), "sums\n")
	put(t, filepath.Join(dir, "src", "cmd", "kube", "main.go"), "package main\n")
	return Builder{Source: filepath.Join(dir, "src"), Cache: filepath.Join(dir, "cache"), Log: io.Discard}, dir
}

func put(t *testing.T, file, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, []byte(text), 0o755)); err != nil {
		t.Fatal(err)
	}
}

func builds(t *testing.T, dir string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(dir, "builds"))
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSpace(string(data)), "\n")
}

func TestCallersAtTheSameTimeBuildOnce(t *testing.T) {
	b, dir := newBuilder(t)
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			got, err := b.Ensure(t.Context(), All)
			if err != nil {
				t.Error(err)
				return
			}
			if missing := absent(got, All); len(missing) > 0 {
				t.Errorf("missing: %v", missing)
			}
		})
	}
	group.Wait()
	if got := builds(t, dir); len(got) != 1 || !strings.Contains(got[0], "gitVersion=v1.2.3") {
		t.Errorf("builds: %q, want one, of the version in go.mod", got)
	}
	if missing := absent(b.Current(), All); len(missing) > 0 {
		t.Errorf("missing below the stable path: %v", missing)
	}
}

func TestAChangedSourceIsRebuilt(t *testing.T) {
	b, dir := newBuilder(t)
	seen := map[string]bool{}
	for _, file := range []string{"go.mod", "go.sum", "cmd/kube/main.go"} {
		got, err := b.Ensure(t.Context(), ForAPI)
		if err != nil {
			t.Fatal(err)
		}
		seen[got] = true
		path := filepath.Join(b.Source, file)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		put(t, path, string(data)+"\n")
	}
	if got := len(builds(t, dir)); len(seen) != 3 || got != 3 {
		t.Errorf("%d folders from %d builds, want 3 from 3", len(seen), got)
	}
}

func TestABuildThatFailsLeavesNothingAndTheNextSucceeds(t *testing.T) {
	b, dir := newBuilder(t)
	put(t, filepath.Join(b.Cache, ".building-killed", "kube"), "half a binary")
	var log bytes.Buffer
	b.Log = &log
	put(t, filepath.Join(dir, "broken"), "")
	if got, err := b.Ensure(t.Context(), ForAPI); err == nil || !strings.Contains(log.String(), "does not compile") {
		t.Fatalf("folder %q, error %v, log %q; want the compiler's message", got, err, log.String())
	}
	entries, err := os.ReadDir(b.Cache)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 || entries[0].Name() != "lock" {
		t.Errorf("left in the cache: %v, want the lock alone", entries)
	}
	if err := os.Remove(filepath.Join(dir, "broken")); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Ensure(t.Context(), ForAPI); err != nil {
		t.Error(err)
	}
}

func TestOnlyBuildsOfYesterdayAreRemoved(t *testing.T) {
	b, _ := newBuilder(t)
	old, recent, other := filepath.Join(b.Cache, "0123456789abcdef"), filepath.Join(b.Cache, "fedcba9876543210"), filepath.Join(b.Cache, "notes")
	yesterday := time.Now().Add(-2 * unused)
	for _, dir := range []string{old, recent, other} {
		put(t, filepath.Join(dir, "kube"), "binary")
	}
	for _, dir := range []string{old, other} {
		if err := os.Chtimes(dir, yesterday, yesterday); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := b.Ensure(t.Context(), ForAPI); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{old: false, recent: true, other: true} {
		if _, err := os.Stat(dir); (err == nil) != want {
			t.Errorf("%s exists: %t, want %t", filepath.Base(dir), err == nil, want)
		}
	}
}

func TestAFolderOfTheEnvironmentIsUsedIfItHasEverything(t *testing.T) {
	b, dir := newBuilder(t)
	given := filepath.Join(dir, "given")
	for _, name := range ForAPI {
		put(t, filepath.Join(given, name), "binary")
	}
	t.Setenv(EnvDir, given)
	if got, err := b.Ensure(t.Context(), ForAPI); err != nil || got != given {
		t.Errorf("folder %q, error %v; want %q", got, err, given)
	}
	got, err := b.Ensure(t.Context(), All)
	if err != nil || got == given {
		t.Errorf("folder %q, error %v; want one that has the kubelet too", got, err)
	}
}
