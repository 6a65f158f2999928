// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
)

// Snapshotter picks how images are laid over each other: by the kernel, or by
// copying where the file system of dir does not allow that.
func Snapshotter(dir string) string {
	if OverlayWorks(dir) == nil {
		return "overlayfs"
	}
	return "native"
}

// OverlayWorks tries an overlay mount in dir. It does so in a mount namespace
// of one thread, which ends with the thread, and the mount with it.
func OverlayWorks(dir string) error {
	temp, err := os.MkdirTemp(dir, "overlay-")
	if err != nil {
		return fmt.Errorf("trying an overlay mount: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }()
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(temp, name), 0o755); err != nil {
			return fmt.Errorf("trying an overlay mount: %w", err)
		}
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread must not serve anybody else
		done <- mountOverlay(temp)
	}()
	return <-done
}

func mountOverlay(temp string) error {
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return fmt.Errorf("making a mount namespace: %w", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("separating mounts: %w", err)
	}
	merged := filepath.Join(temp, "merged")
	options := fmt.Sprintf("lowerdir=%s/lower,upperdir=%s/upper,workdir=%s/work", temp, temp, temp)
	if err := syscall.Mount("overlay", merged, "overlay", 0, options); err != nil {
		return fmt.Errorf("mounting an overlay: %w", err)
	}
	if err := syscall.Unmount(merged, 0); err != nil {
		return fmt.Errorf("unmounting an overlay: %w", err)
	}
	return nil
}
