// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestImpossibleCommandsNameTheFix(t *testing.T) {
	empty := t.TempDir()
	tests := map[string]struct {
		args []string
		want string
	}{
		"status of a folder without a cluster": {[]string{"status", "--dir", empty}, "no cluster there"},
		"load without an archive":              {[]string{"load", "--dir", empty}, "at least one image archive"},
		"load without a cluster":               {[]string{"load", "--dir", empty, "image.tar"}, "no cluster there"},
		"run without a command":                {[]string{"run"}, "command to run after --"},
		"a level that does not exist":          {[]string{"up", "--level", "moon"}, "use api, control or node"},
		"an unexpected argument":               {[]string{"up", "node"}, "takes no argument"},
		"missing sources":                      {[]string{"assets", "--source", empty}, "set the module's folder with --source"},
	}
	t.Setenv("KUBEBUILDER_ASSETS", "")
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			err := dispatch(t.Context(), tc.args[0], tc.args[1:])
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want one with %q", err, tc.want)
			}
		})
	}
}

func TestStoppingAMissingClusterIsNotAnError(t *testing.T) {
	if err := dispatch(t.Context(), "down", []string{"--dir", t.TempDir()}); err != nil {
		t.Error(err)
	}
}

func TestTheExitStatusIsThatOfTheCommand(t *testing.T) {
	tests := map[string]struct {
		err  error
		want int
	}{
		"success":                        {nil, 0},
		"a wrong command line":           {errUsage, 2},
		"an error of the launcher":       {errors.New("broken"), 1},
		"a command that failed":          {exec.Command("sh", "-c", "exit 7").Run(), 7},
		"a command killed by a signal":   {exec.Command("sh", "-c", "kill -TERM $$").Run(), 143},
		"a command that failed, wrapped": {errors.Join(exec.Command("sh", "-c", "exit 7").Run(), nil), 7},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if got := exitCode(tc.err); got != tc.want {
				t.Errorf("exit status %d, want %d", got, tc.want)
			}
		})
	}
}

func TestTheSourcesAreFoundFromAnywhereInTheRepository(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "docs", "development")
	module := filepath.Join(root, "hack", "localcluster")
	for _, dir := range []string{deep, filepath.Join(module, "cmd", "kube")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(module, "cmd", "kube", "main.go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{root, deep, module} {
		t.Chdir(dir)
		if got, err := findSource(""); err != nil || got != module {
			t.Errorf("from %s: %q (%v), want %q", dir, got, err, module)
		}
	}
	t.Chdir(t.TempDir())
	if got, err := findSource(""); err == nil {
		t.Errorf("outside: %q, want an error", got)
	}
}
