// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os/exec"
	"syscall"
)

// PluginsInstalled returns nil if the network plugins are installed.
func PluginsInstalled() error {
	_, err := pluginDir()
	return err
}

// CgroupsMounted returns nil if control groups are mounted.
func CgroupsMounted() error {
	_, err := hierarchies("/proc/self/mountinfo")
	return err
}

// NamespacesWork returns nil if a program can start in namespaces like the node's.
func NamespacesWork() error {
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: Namespaces}
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("starting a program in new namespaces: %w", err)
	}
	return nil
}
