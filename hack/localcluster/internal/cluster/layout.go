// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// Folders and files below a cluster's folder.
const (
	stateFile      = "state.json"
	lockFile       = "lock"
	launcherLog    = "launcher.log"
	kubeconfigFile = "kubeconfig"
	logsDir        = "logs"
	pkiDir         = "pki"
	etcdDir        = "etcd"
	nodeDir        = "node"
)

// made lists everything that a start creates and the next one removes. The lock
// stays: removing a locked file would allow two launchers.
var made = []string{stateFile, kubeconfigFile, logsDir, pkiDir, etcdDir, nodeDir}

// layout is a cluster's folder.
type layout struct{ dir string }

func (l layout) path(parts ...string) string {
	return filepath.Join(append([]string{l.dir}, parts...)...)
}

func (l layout) log(name string) string { return l.path(logsDir, name+".log") }

// prepare creates the folder, or accepts one that a cluster used before. It
// refuses any other folder with content, since a start deletes what it finds.
func (l layout) prepare() error {
	if err := os.MkdirAll(l.dir, 0o755); err != nil {
		return fmt.Errorf("creating the cluster's folder: %w", err)
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return fmt.Errorf("reading the cluster's folder: %w", err)
	}
	ours := append([]string{lockFile, launcherLog, stateFile + ".new"}, made...)
	for _, entry := range entries {
		if !slices.Contains(ours, entry.Name()) {
			return fmt.Errorf("%s contains %q, which no local cluster creates; use an empty folder or a new name", l.dir, entry.Name())
		}
	}
	return nil
}

// wipe removes what a start creates.
func (l layout) wipe() error {
	var errs []error
	for _, name := range made {
		if err := os.RemoveAll(l.path(name)); err != nil {
			errs = append(errs, fmt.Errorf("removing what an earlier cluster left: %w", err))
		}
	}
	return errors.Join(errs...)
}
