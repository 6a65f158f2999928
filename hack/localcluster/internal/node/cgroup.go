// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

const cgroupMount = "/sys/fs/cgroup"

// controllers are those that the kubelet needs below its root in version 2.
var controllers = []string{"cpuset", "cpu", "io", "memory", "pids", "hugetlb"}

// makeCgroups creates the group above all pods, in each hierarchy of version 1
// or in the single one of version 2.
func makeCgroups(name string) error {
	roots, err := hierarchies("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, root := range roots {
		if err := os.MkdirAll(filepath.Join(root, name), 0o755); err != nil {
			return fmt.Errorf("creating a control group: %w", err)
		}
	}
	if unified() {
		for _, dir := range []string{cgroupMount, filepath.Join(cgroupMount, name)} {
			delegate(dir)
		}
	}
	return nil
}

// delegate enables the kernel's controllers for the groups below. The kubelet
// reports missing ones.
func delegate(dir string) {
	for _, controller := range controllers {
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
	}
}

// removeCgroups removes the group in every hierarchy, from the leaves up. A
// group is busy for a moment after its last process exits.
func removeCgroups(name string) error {
	roots, err := hierarchies("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	deadline := time.Now().Add(10 * time.Second)
	for {
		var errs []error
		for _, root := range roots {
			errs = append(errs, removeTree(filepath.Join(root, name)))
		}
		err := errors.Join(errs...)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		<-tick.C
	}
}

func removeTree(top string) error {
	var dirs []string
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && entry.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	if err != nil {
		return fmt.Errorf("listing control groups: %w", err)
	}
	for _, dir := range slices.Backward(dirs) {
		if err := syscall.Rmdir(dir); err != nil && !errors.Is(err, syscall.ENOENT) {
			return fmt.Errorf("removing the control group %s: %w", dir, err)
		}
	}
	return nil
}

// hierarchies returns where control groups are mounted: one place in version 2,
// several in version 1 (one of which may be a version 2 tree without controllers).
func hierarchies(mountinfo string) ([]string, error) {
	if unified() {
		return []string{cgroupMount}, nil
	}
	data, err := os.ReadFile(mountinfo)
	if err != nil {
		return nil, fmt.Errorf("finding control groups: %w", err)
	}
	var roots []string
	for line := range strings.Lines(string(data)) {
		before, after, ok := strings.Cut(line, " - ")
		left, right := strings.Fields(before), strings.Fields(after)
		if ok && len(left) > 4 && len(right) > 0 && strings.HasPrefix(right[0], "cgroup") {
			roots = append(roots, left[4])
		}
	}
	if len(roots) == 0 {
		return nil, errors.New("no control groups are mounted below " + cgroupMount)
	}
	return roots, nil
}

func unified() bool {
	var stat syscall.Statfs_t
	const cgroup2Magic = 0x63677270
	return syscall.Statfs(cgroupMount, &stat) == nil && stat.Type == cgroup2Magic
}
