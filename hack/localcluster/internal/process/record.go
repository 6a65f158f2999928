// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Record identifies one process until the machine reboots.
type Record struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	// Start is the start time in clock ticks since boot, from /proc.
	Start uint64 `json:"start"`
	// Boot identifies the boot, since the ticks restart with each.
	Boot string `json:"boot"`
}

// RecordOf returns the record of a running process.
func RecordOf(name string, pid int) (Record, error) {
	start, _, err := stat(pid)
	if err != nil {
		return Record{}, err
	}
	boot, err := bootID()
	if err != nil {
		return Record{}, err
	}
	return Record{Name: name, PID: pid, Start: start, Boot: boot}, nil
}

// Alive reports whether exactly this process still runs. A zombie does not.
func (r Record) Alive() bool {
	boot, err := bootID()
	if err != nil || boot != r.Boot || r.PID <= 0 {
		return false
	}
	start, state, err := stat(r.PID)
	return err == nil && start == r.Start && state != "Z" && state != "X"
}

// Signal sends a signal to exactly this process. FindProcess pins the process
// before the start time is compared, so a successor with the same pid is never
// signaled.
func (r Record) Signal(sig syscall.Signal) error {
	proc, err := os.FindProcess(r.PID)
	if err != nil {
		return nil // it has exited, which is what every caller wants
	}
	defer func() { _ = proc.Release() }()
	if !r.Alive() {
		return nil
	}
	if err := proc.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("sending %v to %s (pid %d): %w", sig, r.Name, r.PID, err)
	}
	return nil
}

// End asks the process to stop, and kills it after the grace period.
func (r Record) End(grace time.Duration) error {
	if err := r.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	if r.gone(grace) {
		return nil
	}
	if err := r.Signal(syscall.SIGKILL); err != nil {
		return err
	}
	if !r.gone(10 * time.Second) {
		return fmt.Errorf("%s (pid %d) did not exit after SIGKILL", r.Name, r.PID)
	}
	return nil
}

func (r Record) gone(within time.Duration) bool {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(within); r.Alive(); <-tick.C {
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// stat returns the start time and the state of a process.
func stat(pid int) (start uint64, state string, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", fmt.Errorf("reading the stat file of pid %d: %w", pid, err)
	}
	// The second field is the program's name in parentheses and may contain anything.
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return 0, "", fmt.Errorf("reading the stat file of pid %d: unknown format", pid)
	}
	fields := strings.Fields(string(data[end+1:]))
	const startTime = 22 - 3 // field 22, counted from the third
	if len(fields) <= startTime {
		return 0, "", fmt.Errorf("reading the stat file of pid %d: too few fields", pid)
	}
	start, err = strconv.ParseUint(fields[startTime], 10, 64)
	if err != nil {
		return 0, "", fmt.Errorf("reading the stat file of pid %d: %w", pid, err)
	}
	return start, fields[0], nil
}

func bootID() (string, error) {
	data, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", fmt.Errorf("reading the boot id: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}
