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

// Snapshotter returns how image layers are combined: by the kernel, or by copying
// if the file system of dir does not allow that.
func Snapshotter(dir string) string {
	if OverlayWorks(dir) == nil {
		return "overlayfs"
	}
	return "native"
}

// OverlayWorks tests an overlay mount in dir, in the mount namespace of one
// thread, which disappears with the thread and its mount.
func OverlayWorks(dir string) error {
	temp, err := os.MkdirTemp(dir, "overlay-")
	if err != nil {
		return fmt.Errorf("testing an overlay mount: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }()
	for _, name := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(temp, name), 0o755); err != nil {
			return fmt.Errorf("testing an overlay mount: %w", err)
		}
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread must not run other goroutines
		done <- mountOverlay(temp)
	}()
	return <-done
}

func mountOverlay(temp string) error {
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		return fmt.Errorf("creating a mount namespace: %w", err)
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
