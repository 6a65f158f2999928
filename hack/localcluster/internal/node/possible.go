// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os/exec"
	"syscall"
)

// PluginsInstalled says whether the network plugins are there.
func PluginsInstalled() error {
	_, err := pluginDir()
	return err
}

// CgroupsMounted says whether there are control groups.
func CgroupsMounted() error {
	_, err := hierarchies("/proc/self/mountinfo")
	return err
}

// NamespacesWork starts a program in namespaces like the node's.
func NamespacesWork() error {
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: Namespaces}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("starting a program in namespaces of its own: %w", err)
	}
	return nil
}
