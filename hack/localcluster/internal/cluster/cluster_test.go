// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"io"
	"os"
	"os/exec"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/hack/localcluster/internal/process"
)

func TestArgumentsOfTheCallerReplaceDefaults(t *testing.T) {
	defaults := []string{"--a=1", "--ab=2", "--c=3"}
	tests := map[string]struct {
		wanted, want []string
	}{
		"a new key is added":                     {[]string{"d=4"}, []string{"--a=1", "--ab=2", "--c=3", "--d=4"}},
		"a known key is replaced, by whole name": {[]string{"a=9"}, []string{"--ab=2", "--c=3", "--a=9"}},
		"dashes are optional":                    {[]string{"--c=9"}, []string{"--a=1", "--ab=2", "--c=9"}},
		"a key given twice appears twice":        {[]string{"c=8", "c=9"}, []string{"--a=1", "--ab=2", "--c=8", "--c=9"}},
		"a value may hold an equals sign":        {[]string{"c=x=y"}, []string{"--a=1", "--ab=2", "--c=x=y"}},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := override(append([]string(nil), defaults...), tc.wanted)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("arguments (-want +got):\n%s", diff)
			}
		})
	}
	for _, bad := range []string{"novalue", "=1", ""} {
		if got, err := override(nil, []string{bad}); err == nil {
			t.Errorf("%q is accepted as %v", bad, got)
		}
	}
}

// TestCleaningEndsWhatTheStateNamesAndNothingElse covers a kernel that does not
// kill the children of a killed launcher.
func TestCleaningEndsWhatTheStateNamesAndNothingElse(t *testing.T) {
	l := layout{dir: t.TempDir()}
	left, other := sleeper(t), sleeper(t)
	reused := other
	reused.Start-- // a process with this pid was once the cluster's
	state := State{Level: LevelAPI, Processes: []process.Record{left, reused}}
	if err := state.save(l); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(l.path(etcdDir, "member"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := clean(l, io.Discard); err != nil {
		t.Fatal(err)
	}
	if left.Alive() {
		t.Error("the leftover process still runs")
	}
	if !other.Alive() {
		t.Error("a process that reused the pid of a part was killed")
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil || len(entries) > 0 {
		t.Errorf("left in the folder: %v (%v)", entries, err)
	}
}

func sleeper(t *testing.T) process.Record {
	t.Helper()
	cmd := exec.Command("sleep", "300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-ended })
	record, err := process.RecordOf("sleep", cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return record
}

func TestAStateThatCannotBeReadStopsTheCleaning(t *testing.T) {
	l := layout{dir: t.TempDir()}
	if err := os.WriteFile(l.path(stateFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := clean(l, io.Discard); err == nil {
		t.Error("no error although the running processes are unknown")
	}
	if _, err := os.Stat(l.path(stateFile)); err != nil {
		t.Errorf("the state was removed: %v", err)
	}
}
