// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/rekey/rekey/hack/localcluster/internal/node"
	"github.com/rekey/rekey/hack/localcluster/internal/process"
)

// State is what a launcher records about its cluster.
type State struct {
	Level      Level            `json:"level"`
	Ready      bool             `json:"ready"`
	Server     string           `json:"server"`
	Kubeconfig string           `json:"kubeconfig"`
	Assets     string           `json:"assets"`
	Launcher   process.Record   `json:"launcher"`
	Processes  []process.Record `json:"processes"`
	Node       *node.Place      `json:"node,omitempty"`
}

// ErrNone reports that a folder has no cluster.
var ErrNone = errors.New("no cluster there")

// Load reads the state of the cluster in dir.
func Load(dir string) (State, error) {
	data, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return State{}, fmt.Errorf("%s: %w", dir, ErrNone)
	}
	if err != nil {
		return State{}, fmt.Errorf("reading the cluster's state: %w", err)
	}
	var state State
	if err := json.Unmarshal(data, &state); err != nil {
		return State{}, fmt.Errorf("reading the cluster's state: %w", err)
	}
	return state, nil
}

// save replaces the state file atomically.
func (s State) save(l layout) error {
	data, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the cluster's state: %w", err)
	}
	temp := l.path(stateFile + ".new")
	if err := os.WriteFile(temp, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("writing the cluster's state: %w", err)
	}
	if err := os.Rename(temp, l.path(stateFile)); err != nil {
		return fmt.Errorf("writing the cluster's state: %w", err)
	}
	return nil
}

// lock locks the folder for this process. The kernel releases the lock when the
// process dies.
func (l layout) lock() (*os.File, error) {
	file, err := os.OpenFile(l.path(lockFile), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the cluster's lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("%s: %w", l.dir, ErrRunning)
		}
		return nil, fmt.Errorf("taking the cluster's lock: %w", err)
	}
	return file, nil
}

// ErrRunning reports that a launcher holds the folder.
var ErrRunning = errors.New("a cluster runs there already; stop it with `localcluster down`, or use another folder")
