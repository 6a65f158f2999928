// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestRunProvidesAClusterAndReturnsTheCommandsExitStatus(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "c")
	got := run(t, "run", "--level", "api", "--dir", dir, "--apiserver-arg", "service-account-issuer=https://issuer.example",
		"--", "sh", "-c", `
			echo "$LOCALCLUSTER_DIR"
			"$KUBEBUILDER_ASSETS/kubectl" get namespaces --output=name
			"$KUBEBUILDER_ASSETS/kubectl" get --raw /.well-known/openid-configuration
			cp "$LOCALCLUSTER_DIR/state.json" "$LOCALCLUSTER_DIR/../state.json"
			exit 7`)
	if got.code != 7 {
		t.Errorf("exit status is %d, want the command's 7\n%s", got.code, got.log)
	}
	for _, want := range []string{dir + "\n", "namespace/default\n", "namespace/kube-system\n", `"issuer":"https://issuer.example"`} {
		if !strings.Contains(got.out, want) {
			t.Errorf("the command's output lacks %q:\n%s%s", want, got.out, got.log)
		}
	}
	state := load(t, filepath.Dir(dir))
	if len(state.Processes) != 2 {
		t.Errorf("%d processes were recorded, want etcd and kube-apiserver", len(state.Processes))
	}
	if left := running(state); len(left) > 0 {
		t.Errorf("still running after the command: %v", left)
	}
	if _, err := os.Stat(filepath.Join(dir, "etcd")); !os.IsNotExist(err) {
		t.Errorf("etcd's data still exist: %v", err)
	}
}

func TestASecondStartReplacesWhatAKilledLauncherLeft(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "c")
	first := up(t, dir, "--level", "control")
	kubectl(t, first, "", "create", "namespace", "before")
	if got := running(first); len(got) != 5 {
		t.Fatalf("running: %v, want four parts and the launcher", got)
	}

	kill(t, first)
	eventually(t, 10*time.Second, "the kernel kills the killed launcher's children", func() bool { return len(running(first)) == 0 })
	if got := run(t, "status", "--dir", dir); got.code == 0 || !strings.Contains(got.log, "interrupted") {
		t.Errorf("status of a cluster whose launcher was killed: exit status %d, %q", got.code, got.log)
	}

	second := up(t, dir, "--level", "control")
	if got := running(second); len(got) != 5 {
		t.Errorf("running after the second start: %v, want four parts and the launcher", got)
	}
	names := kubectl(t, second, "", "get", "namespaces", "--output=name")
	if !strings.Contains(names, "namespace/default") || strings.Contains(names, "namespace/before") {
		t.Errorf("namespaces after the second start: %s\nwant those of an empty cluster", names)
	}
	kubectl(t, second, "", "get", "serviceaccount", "default")

	if got := run(t, "up", "--dir", dir); got.code == 0 || !strings.Contains(got.log, "runs there already") {
		t.Errorf("starting a second cluster in the folder of a running one: exit status %d, %q", got.code, got.log)
	}
	mustRun(t, "down", "--dir", dir)
	if left := running(second); len(left) > 0 {
		t.Errorf("still running after down: %v", left)
	}
}

func TestAFailedStartReportsTheCauseAndLeavesNothing(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "c")
	temp := t.TempDir()
	cmd := launcher(t.Context(), t, "up", "--level", "api", "--dir", dir, "--apiserver-arg", "no-such-flag=1")
	cmd.Env = append(cmd.Env, "TMPDIR="+temp)
	got := finish(t, cmd)
	if got.code == 0 || !strings.Contains(got.log, "kube-apiserver: it exited") || !strings.Contains(got.log, "no-such-flag") {
		t.Errorf("exit status %d, want an error that shows the end of the log:\n%s", got.code, got.log)
	}
	if kept, err := filepath.Glob(filepath.Join(temp, "*", "logs", "kube-apiserver.log")); err != nil || len(kept) != 1 {
		t.Errorf("logs kept for a look: %v (%v), want those of kube-apiserver", kept, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		if entry.Name() != "lock" {
			t.Errorf("%s still exists", entry.Name())
		}
	}
}

func TestAFolderWithOtherFilesIsRefused(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	mine := filepath.Join(dir, "thesis.txt")
	if err := os.WriteFile(mine, []byte("years of work"), 0o600); err != nil {
		t.Fatal(err)
	}
	got := run(t, "up", "--dir", dir)
	if got.code == 0 || !strings.Contains(got.log, "thesis.txt") {
		t.Errorf("exit status %d, %q; want an error that names the file", got.code, got.log)
	}
	if _, err := os.Stat(mine); err != nil {
		t.Error(err)
	}
}

func TestAPartThatExitsStopsTheClusterAndIsReported(t *testing.T) {
	t.Parallel()
	dir, temp := filepath.Join(t.TempDir(), "c"), t.TempDir()
	cmd := launcher(t.Context(), t, "run", "--level", "api", "--dir", dir, "--", "sh", "-c",
		`kill -KILL $(sed -n 's/.*"pid": \([0-9]*\),/\1/p' "$LOCALCLUSTER_DIR/state.json" | tail -1); exec sleep 300`)
	cmd.Env = append(cmd.Env, "TMPDIR="+temp)
	got := finish(t, cmd)
	if got.code == 0 || !strings.Contains(got.log, "the cluster broke: kube-apiserver exited: signal: killed") {
		t.Errorf("exit status %d, want a report that the API server exited:\n%s", got.code, got.log)
	}
	if kept, err := filepath.Glob(filepath.Join(temp, "*", "logs", "etcd.log")); err != nil || len(kept) != 1 {
		t.Errorf("logs kept for a look: %v (%v), want those of etcd", kept, err)
	}
}
