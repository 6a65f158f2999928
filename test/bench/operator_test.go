// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is the limit for everything.
const patience = 15 * time.Minute

// ticks per second in /proc (USER_HZ, which is 100 on every architecture that Linux shows to programs).
const ticks = 100

// operator is a process under test.
type operator struct {
	command *exec.Cmd
	begun   time.Time
	log     string
	// probe and metrics are addresses.
	probe, metrics string
	ended          chan struct{}
}

// memoryLimit of the shipped Deployment.
const memoryLimit = "GOMEMLIMIT=460MiB"

// startRekey starts the real binary with the flags of the shipped Deployment and waits until it is ready.
func startRekey(t *testing.T, kubeconfig string, more ...string) *operator {
	t.Helper()
	return startRekeyAs(t, binaries.rekey, nil, kubeconfig, more...)
}

// startRekeyAs starts a rekey binary with additional variables in its environment.
func startRekeyAs(t *testing.T, binary string, environment []string, kubeconfig string, more ...string) *operator {
	t.Helper()
	probe, metrics := freeAddress(t), freeAddress(t)
	arguments := append([]string{"--kubeconfig", kubeconfig, "--leader-elect", "--operator-namespace=" + operatorNamespace,
		"--metrics-bind-address=" + metrics, "--health-probe-bind-address=" + probe, "--log-level=info"}, more...)
	o := startOperator(t, binary, probe, arguments, environment...)
	o.metrics = metrics
	return o
}

func startFloor(t *testing.T, kubeconfig string) *operator {
	t.Helper()
	probe := freeAddress(t)
	return startOperator(t, binaries.floor, probe, []string{"--kubeconfig", kubeconfig, "--health-probe-bind-address=" + probe})
}

func startOperator(t *testing.T, binary, probe string, arguments []string, environment ...string) *operator {
	t.Helper()
	o := &operator{command: exec.CommandContext(context.WithoutCancel(t.Context()), binary, arguments...), probe: probe,
		log: filepath.Join(t.TempDir(), "log"), ended: make(chan struct{})}
	log, err := os.Create(o.log)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = log.Close() }()
	o.command.Stdout, o.command.Stderr = log, log
	o.command.Env = slices.Concat([]string{memoryLimit}, os.Environ(), environment)
	o.command.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	o.begun = time.Now()
	if err := o.command.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = o.command.Wait()
		close(o.ended)
	}()
	t.Cleanup(func() { o.stop(t) })
	o.ready(t)
	return o
}

// ready waits until /readyz succeeds.
func (o *operator) ready(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for begun := time.Now(); time.Since(begun) < patience; <-tick.C {
		ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+o.probe+"/readyz", nil)
		if err != nil {
			t.Fatal(err)
		}
		answer, err := http.DefaultClient.Do(ask)
		if err == nil {
			_ = answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return
			}
		}
		if !o.alive() {
			t.Fatalf("%s exited: %s", o.command.Path, o.said(t))
		}
	}
	t.Fatalf("%s does not become ready: %s", o.command.Path, o.said(t))
}

func (o *operator) alive() bool {
	select {
	case <-o.ended:
		return false
	default:
		return true
	}
}

// stop stops the process as Kubernetes does.
func (o *operator) stop(t *testing.T) {
	t.Helper()
	if !o.alive() {
		return
	}
	_ = o.command.Process.Signal(syscall.SIGTERM)
	select {
	case <-o.ended:
	case <-time.After(time.Minute):
		_ = o.command.Process.Kill()
		t.Errorf("%s did not exit within a minute", o.command.Path)
	}
}

// said returns the end of its log.
func (o *operator) said(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(o.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text[max(0, len(text)-2000):])
}

// cpu returns its processor time in seconds.
func (o *operator) cpu(t *testing.T) float64 {
	t.Helper()
	return processorTime(t, o.proc(t, "stat"))
}

// processorTime returns the processor time in /proc/PID/stat, in seconds.
func processorTime(t *testing.T, stat string) float64 {
	t.Helper()
	// The name of the program is in parentheses; user and system time are the 14th and 15th field (proc(5)).
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	user, errUser := strconv.Atoi(fields[11])
	system, errSystem := strconv.Atoi(fields[12])
	if err := errors.Join(errUser, errSystem); err != nil {
		t.Fatal(err)
	}
	return float64(user+system) / ticks
}

// memory reads a line of /proc/PID/status in KiB: VmRSS is the resident memory, VmHWM its peak.
func (o *operator) memory(t *testing.T, name string) int {
	t.Helper()
	for line := range strings.Lines(o.proc(t, "status")) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			number, err := strconv.Atoi(strings.Fields(value)[0])
			if err != nil {
				t.Fatal(err)
			}
			return number
		}
	}
	t.Fatalf("/proc has no %s", name)
	return 0
}

func (o *operator) proc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", o.command.Process.Pid, name))
	if err != nil {
		t.Fatalf("%v: %s", err, o.said(t))
	}
	return string(text)
}

// quiet waits until the process has done next to nothing for a second, and returns when that second started.
func (o *operator) quiet(t *testing.T) time.Time {
	t.Helper()
	const (
		window = time.Second
		nearly = 0.05 // Seconds of processor time.
	)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	cpu, since := o.cpu(t), time.Now()
	for begun := time.Now(); time.Since(since) < window; <-tick.C {
		if now := o.cpu(t); now-cpu > nearly {
			cpu, since = now, time.Now()
		}
		if time.Since(begun) > patience {
			t.Fatal("the operator does not become quiet")
		}
	}
	return since
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}
