// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// asParent makes the test binary a parent that starts a child and then waits
// to be killed.
const asParent = "PROCESS_TEST_AS_PARENT"

func TestMain(m *testing.M) {
	if dir := os.Getenv(asParent); dir != "" {
		parent(dir)
		return
	}
	os.Exit(m.Run())
}

func parent(dir string) {
	group := NewGroup()
	child, err := group.Start("child", filepath.Join(dir, "child.log"), exec.Command("sleep", "300"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(child.PID)
	<-child.Done()
}

func TestChildrenDieWithAParentThatIsKilled(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), asParent+"="+t.TempDir())
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatalf("reading the child's pid: %v", err)
	}
	child, err := RecordOf("child", pid)
	if err != nil {
		t.Fatal(err)
	}
	if !child.Alive() {
		t.Fatal("the child does not run")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	if !child.gone(10 * time.Second) {
		t.Error("the child outlived its parent")
		_ = child.End(0)
	}
	_ = cmd.Wait() // it was killed
}

func TestAReusedPidIsLeftAlone(t *testing.T) {
	cmd := exec.Command("sleep", "300")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	now, err := RecordOf("sleep", cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	earlier, otherBoot := now, now
	earlier.Start--
	otherBoot.Boot = "another"
	for name, record := range map[string]Record{"an earlier process": earlier, "a process of another boot": otherBoot} {
		if record.Alive() {
			t.Errorf("%s is reported as alive", name)
		}
		if err := record.End(0); err != nil {
			t.Errorf("stopping %s: %v", name, err)
		}
	}
	if !now.Alive() {
		t.Fatal("the process that has the pid now was stopped")
	}
	if err := now.End(time.Second); err != nil {
		t.Fatal(err)
	}
	if now.Alive() {
		t.Error("the recorded process was not stopped")
	}
}

func TestEndKillsWhatDoesNotStopWhenAsked(t *testing.T) {
	group := NewGroup()
	defer group.Close()
	log := filepath.Join(t.TempDir(), "log")
	child, err := group.Start("stubborn", log, exec.Command("sh", "-c", `trap "" TERM; echo trapped; while :; do sleep 0.1; done`))
	if err != nil {
		t.Fatal(err)
	}
	for !strings.Contains(Tail(log, 5), "trapped") {
		if !child.Alive() {
			t.Fatalf("it exited early\n%s", Tail(log, 5))
		}
	}
	if err := group.Stop(100 * time.Millisecond); err != nil {
		t.Error(err)
	}
	if child.Alive() {
		t.Error("it still runs")
	}
	select {
	case err := <-group.Failed():
		t.Errorf("a requested stop is reported as a failure: %v", err)
	default:
	}
}

func TestAChildThatExitsUnexpectedlyIsReportedWithItsLog(t *testing.T) {
	group := NewGroup()
	defer group.Close()
	if _, err := group.Start("broken", filepath.Join(t.TempDir(), "log"), exec.Command("sh", "-c", "echo why it broke; exit 3")); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-group.Failed():
		for _, want := range []string{"broken", "exit status 3", "why it broke"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("the report lacks %q: %v", want, err)
			}
		}
	case <-time.After(10 * time.Second):
		t.Error("nothing was reported")
	}
}
