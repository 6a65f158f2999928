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

// Record names one process for as long as the machine is up.
type Record struct {
	Name string `json:"name"`
	PID  int    `json:"pid"`
	// Start is the start time in clock ticks since boot, from /proc.
	Start uint64 `json:"start"`
	// Boot tells one boot from the next, where ticks start again.
	Boot string `json:"boot"`
}

// RecordOf describes a running process.
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

// Alive says whether this very process still runs. A zombie does not.
func (r Record) Alive() bool {
	boot, err := bootID()
	if err != nil || boot != r.Boot || r.PID <= 0 {
		return false
	}
	start, state, err := stat(r.PID)
	return err == nil && start == r.Start && state != "Z" && state != "X"
}

// Signal sends a signal to this very process. FindProcess pins the process
// before the start time is compared, so there is no moment at which a
// successor with the same pid could be hit.
func (r Record) Signal(sig syscall.Signal) error {
	proc, err := os.FindProcess(r.PID)
	if err != nil {
		return nil // it is gone, which is what every caller wants
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

// End asks the process to stop, and after the grace period makes it.
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
		return fmt.Errorf("%s (pid %d) did not end after SIGKILL", r.Name, r.PID)
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

// stat reads start time and state of a process.
func stat(pid int) (start uint64, state string, err error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, "", fmt.Errorf("looking at pid %d: %w", pid, err)
	}
	// The second field is the program's name in parentheses and may hold anything.
	end := bytes.LastIndexByte(data, ')')
	if end < 0 {
		return 0, "", fmt.Errorf("looking at pid %d: unknown form of its stat file", pid)
	}
	fields := strings.Fields(string(data[end+1:]))
	const startTime = 22 - 3 // field 22, counted from the third
	if len(fields) <= startTime {
		return 0, "", fmt.Errorf("looking at pid %d: its stat file has too few fields", pid)
	}
	start, err = strconv.ParseUint(fields[startTime], 10, 64)
	if err != nil {
		return 0, "", fmt.Errorf("looking at pid %d: %w", pid, err)
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
