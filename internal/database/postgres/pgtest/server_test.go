// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pgtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/database/postgres/pgtest"
)

func TestEveryVersionStartsWithTLSAndHasAStandby(t *testing.T) {
	for _, version := range pgtest.Versions {
		t.Run(strconv.Itoa(version), func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			server, err := pgtest.Start(ctx, pgtest.Options{Version: version})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(server.Stop)
			if err := server.Exec(ctx, "postgres", "CREATE TABLE seen (n int)", "INSERT INTO seen VALUES (7)"); err != nil {
				t.Fatal(err)
			}
			standby, err := server.Standby(ctx)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(standby.Stop)
			if err := standby.Exec(ctx, "postgres", "DO $$ BEGIN ASSERT pg_is_in_recovery(); ASSERT (SELECT count(*) FROM pg_stat_ssl WHERE ssl) > 0; END $$"); err != nil {
				t.Error(err)
			}
			if err := server.Restart(ctx); err != nil {
				t.Fatal(err)
			}
			if err := server.Exec(ctx, "postgres", "DO $$ BEGIN ASSERT (SELECT n FROM seen) = 7; END $$"); err != nil {
				t.Error(err)
			}
			if !strings.Contains(server.LogText(), "SELECT n FROM seen") {
				t.Error("the log does not hold the statements")
			}
		})
	}
}

func TestTheErrorForAMissingVersionSaysToInstallIt(t *testing.T) {
	_, err := pgtest.Start(t.Context(), pgtest.Options{Version: 3})
	if err == nil || !strings.Contains(err.Error(), "hack/install-deps.sh test") {
		t.Errorf("got %v, want the command that installs it", err)
	}
}

// TestAServerEndsWithItsParent runs its own binary as a child that starts a server and is then killed.
func TestAServerEndsWithItsParent(t *testing.T) {
	if os.Getenv("PGTEST_CHILD") != "" {
		server, err := pgtest.Start(t.Context(), pgtest.Options{Dir: os.Getenv("PGTEST_CHILD")})
		if err != nil {
			t.Fatal(err)
		}
		_, _ = os.Stdout.WriteString("port " + strconv.Itoa(server.Port) + " pid " + strconv.Itoa(server.Pid()) + "\n")
		select {}
	}
	dir := t.TempDir()
	for _, enter := range []string{dir, filepath.Dir(dir)} { // the server's user must be able to enter
		if err := os.Chmod(enter, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestAServerEndsWithItsParent$")
	child.Env = append(os.Environ(), "PGTEST_CHILD="+dir)
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	buffer := make([]byte, 100)
	n, err := out.Read(buffer)
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(buffer[:n]))
	if len(fields) != 4 || fields[0] != "port" {
		t.Fatalf("the child did not start a server: %q", buffer[:n])
	}
	pid, err := strconv.Atoi(fields[len(fields)-1])
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = child.Wait()
	deadline := time.Now().Add(20 * time.Second)
	for running(pid) {
		if time.Now().After(deadline) {
			t.Fatal("the server outlives its parent")
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// running reports whether pid exists and is not a zombie.
func running(pid int) bool {
	if syscall.Kill(pid, 0) != nil {
		return false
	}
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
