// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rekey/rekey/hack/localcluster/internal/cli"
	"github.com/rekey/rekey/hack/localcluster/internal/cluster"
)

// asLauncher makes the test binary act as the launcher, so that the launcher under
// test is always built from these sources.
const asLauncher = "LOCALCLUSTER_TEST_AS_LAUNCHER"

func TestMain(m *testing.M) {
	if os.Getenv(asLauncher) != "" {
		os.Exit(cli.Main(os.Args[1:]))
	}
	os.Exit(m.Run())
}

// launcher returns a command of the launcher.
func launcher(ctx context.Context, t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), asLauncher+"=1")
	return cmd
}

// result is the output and exit status of a command.
type result struct {
	out, log string
	code     int
}

// run runs a command of the launcher until it exits.
func run(t *testing.T, args ...string) result {
	t.Helper()
	return finish(t, launcher(t.Context(), t, args...))
}

func finish(t *testing.T, cmd *exec.Cmd) result {
	t.Helper()
	var out, log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &log
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatalf("starting %v: %v", cmd.Args, err)
	}
	return result{out: out.String(), log: log.String(), code: cmd.ProcessState.ExitCode()}
}

// mustRun is run for a command that must succeed.
func mustRun(t *testing.T, args ...string) string {
	t.Helper()
	got := run(t, args...)
	if got.code != 0 {
		t.Fatalf("localcluster %s: exit status %d\n%s%s", strings.Join(args, " "), got.code, got.out, got.log)
	}
	return got.out
}

// up starts a cluster in the background; the test always stops it.
func up(t *testing.T, dir string, args ...string) cluster.State {
	t.Helper()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if got := finish(t, launcher(ctx, t, "down", "--dir", dir)); got.code != 0 {
			t.Errorf("stopping the cluster: exit status %d\n%s", got.code, got.log)
		}
	})
	mustRun(t, append([]string{"up", "--detach", "--dir", dir}, args...)...)
	return load(t, dir)
}

func load(t *testing.T, dir string) cluster.State {
	t.Helper()
	state, err := cluster.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	return state
}

// kubectl runs kubectl against a cluster.
func kubectl(t *testing.T, state cluster.State, stdin string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), filepath.Join(state.Assets, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+state.Kubeconfig)
	cmd.Stdin = strings.NewReader(stdin)
	got := finish(t, cmd)
	if got.code != 0 {
		t.Fatalf("kubectl %s: exit status %d\n%s%s", strings.Join(args, " "), got.code, got.out, got.log)
	}
	return got.out
}

// kill kills the launcher.
func kill(t *testing.T, state cluster.State) {
	t.Helper()
	if err := state.Launcher.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
}

// eventually polls until the condition holds.
func eventually(t *testing.T, within time.Duration, what string, ok func() bool) time.Duration {
	t.Helper()
	started := time.Now()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		if time.Since(started) > within {
			t.Fatalf("not within %s: %s", within, what)
		}
		<-tick.C
	}
	return time.Since(started)
}

func running(state cluster.State) []string {
	var names []string
	for _, record := range append(state.Processes, state.Launcher) {
		if record.Alive() {
			names = append(names, record.Name)
		}
	}
	return names
}
