// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// Down stops the cluster in dir, whether its launcher still runs or was
// interrupted. It is not an error if there is none.
func Down(dir string, log io.Writer) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("finding the cluster's folder: %w", err)
	}
	state, err := Load(dir)
	if errors.Is(err, ErrNone) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := state.Launcher.End(time.Minute); err != nil {
		return err
	}
	l := layout{dir: dir}
	lock, err := l.lock()
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }()
	if err := clean(l, log); err != nil {
		return err
	}
	return removeEmptied(l)
}

// removeEmptied removes the folder itself if it is empty.
func removeEmptied(l layout) error {
	for _, name := range []string{launcherLog, lockFile} {
		if err := os.RemoveAll(l.path(name)); err != nil {
			return fmt.Errorf("removing the cluster's folder: %w", err)
		}
	}
	return nil
}
