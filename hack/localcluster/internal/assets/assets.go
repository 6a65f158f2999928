// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package assets

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// EnvDir is the variable that names the folder of the programs for envtest.
const EnvDir = "KUBEBUILDER_ASSETS"

// ForAPI are the programs that the api level needs; envtest needs the same.
var ForAPI = []string{"etcd", "kube-apiserver", "kubectl"}

// All are the programs in the binary of cmd/kube.
var All = []string{
	"etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy",
	"kube-scheduler", "kubectl", "kubelet",
}

// Builder builds the programs from Source into Cache.
type Builder struct {
	// Source is the folder of the module with cmd/kube.
	Source string
	// Cache is the folder that keeps one folder per build.
	Cache string
	// Log receives the progress.
	Log io.Writer
}

// Ensure returns a folder with the named programs: the one that the environment
// names if it has them all, otherwise a build, which is cached for the same
// sources.
func (b Builder) Ensure(ctx context.Context, programs []string) (string, error) {
	if dir := os.Getenv(EnvDir); dir != "" {
		missing := absent(dir, programs)
		if len(missing) == 0 {
			return filepath.Abs(dir)
		}
		b.sayf("%s=%s lacks %s; using programs built here instead",
			EnvDir, dir, strings.Join(missing, ", "))
	}
	return b.build(ctx)
}

// sayf reports progress. A closed reader is ignored.
func (b Builder) sayf(format string, args ...any) {
	_, _ = fmt.Fprintf(b.Log, format+"\n", args...)
}

// Current is the path that always points to the latest build.
func (b Builder) Current() string { return filepath.Join(b.Cache, "current") }

func (b Builder) build(ctx context.Context) (string, error) {
	key, err := b.key(ctx)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(b.Cache, key)
	if len(absent(dir, All)) == 0 {
		return dir, b.pointCurrent(key)
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	if len(absent(dir, All)) == 0 { // another process built it while this one waited
		return dir, b.pointCurrent(key)
	}
	if err := b.compile(ctx, dir); err != nil {
		return "", err
	}
	return dir, b.pointCurrent(key)
}

const keyLength = 16

// key names a build: everything that can change the binary is part of it.
func (b Builder) key(ctx context.Context) (string, error) {
	version, err := goEnv(ctx, b.Source, "GOVERSION", "GOOS", "GOARCH")
	if err != nil {
		return "", err
	}
	sources, err := filepath.Glob(filepath.Join(b.Source, "cmd", "kube", "*.go"))
	if err != nil {
		return "", fmt.Errorf("listing the sources of cmd/kube: %w", err)
	}
	if len(sources) == 0 {
		return "", fmt.Errorf("no sources of cmd/kube below %s; set the module's folder with --source", b.Source)
	}
	sum := sha256.New()
	_, _ = fmt.Fprintln(sum, version) // writing to a hash never fails
	for _, file := range append([]string{filepath.Join(b.Source, "go.mod"), filepath.Join(b.Source, "go.sum")}, sources...) {
		data, err := os.ReadFile(file)
		if err != nil {
			return "", fmt.Errorf("reading what the build depends on: %w", err)
		}
		_, _ = fmt.Fprintf(sum, "%s %d\n%s", filepath.Base(file), len(data), data)
	}
	return hex.EncodeToString(sum.Sum(nil))[:keyLength], nil
}

func (b Builder) compile(ctx context.Context, dir string) error {
	version, err := b.kubernetesVersion()
	if err != nil {
		return err
	}
	if err := b.dropInterrupted(); err != nil {
		return err
	}
	temp, err := os.MkdirTemp(b.Cache, ".building-")
	if err != nil {
		return fmt.Errorf("creating a folder for the build: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }()
	if err := os.Chmod(temp, 0o755); err != nil {
		return fmt.Errorf("opening the build folder to other users: %w", err)
	}
	started := time.Now()
	b.sayf("Building Kubernetes %s from its Go modules, once: usually 5 to 8 minutes on 2 cores.", version)
	if err := b.goBuild(ctx, version, filepath.Join(temp, "kube"), started); err != nil {
		return err
	}
	for _, name := range All {
		if err := os.Symlink("kube", filepath.Join(temp, name)); err != nil {
			return fmt.Errorf("linking %s: %w", name, err)
		}
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("removing an incomplete build: %w", err)
	}
	if err := os.Rename(temp, dir); err != nil {
		return fmt.Errorf("putting the build in place: %w", err)
	}
	b.sayf("Built in %s.", time.Since(started).Round(time.Second))
	return b.prune(dir)
}

// unused is how long a build is kept after another replaced it: a process may
// have got its folder and start programs from it later.
const unused = 24 * time.Hour

// dropInterrupted removes what killed builds left. The caller holds the lock, so
// no other build is running.
func (b Builder) dropInterrupted() error {
	left, err := filepath.Glob(filepath.Join(b.Cache, ".building-*"))
	if err != nil {
		return fmt.Errorf("listing interrupted builds: %w", err)
	}
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing an interrupted build: %w", err)
		}
	}
	return nil
}

// prune removes old builds.
func (b Builder) prune(keep string) error {
	dirs, err := filepath.Glob(filepath.Join(b.Cache, strings.Repeat("[0-9a-f]", keyLength)))
	if err != nil {
		return fmt.Errorf("listing old builds: %w", err)
	}
	for _, dir := range dirs {
		info, err := os.Stat(dir)
		if err != nil || dir == keep || time.Since(info.ModTime()) < unused {
			continue
		}
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("removing an old build: %w", err)
		}
	}
	return nil
}

func (b Builder) goBuild(ctx context.Context, version, out string, started time.Time) error {
	parts := strings.SplitN(strings.TrimPrefix(version, "v"), ".", 3)
	pkg := "k8s.io/component-base/version."
	flags := fmt.Sprintf("-s -w -X %sgitVersion=%s -X %sgitMajor=%s -X %sgitMinor=%s",
		pkg, version, pkg, parts[0], pkg, parts[1])
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "kubernetes", "-trimpath", "-ldflags", flags, "-o", out, "./cmd/kube")
	cmd.Dir = b.Source
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOWORK=off")
	cmd.Stdout, cmd.Stderr = b.Log, b.Log
	// The compiler's children stop with it only on a signal to its group.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting go build: %w", err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("building Kubernetes: %w", err)
			}
			return nil
		case <-tick.C:
			b.sayf("  still building, %s so far", time.Since(started).Round(time.Second))
		}
	}
}

var requirement = regexp.MustCompile(`(?m)^\s*k8s\.io/kubernetes (v[0-9]+\.[0-9]+\.\S+)`)

// kubernetesVersion reads the release from go.mod, the only place that has it.
func (b Builder) kubernetesVersion() (string, error) {
	data, err := os.ReadFile(filepath.Join(b.Source, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("reading the Kubernetes version: %w", err)
	}
	match := requirement.FindSubmatch(data)
	if match == nil {
		return "", errors.New("go.mod does not require k8s.io/kubernetes")
	}
	return string(match[1]), nil
}

// pointCurrent points the stable path to one build. It replaces the link by
// rename, so that the path always exists.
func (b Builder) pointCurrent(key string) error {
	if now, err := os.Readlink(b.Current()); err == nil && now == key {
		return nil
	}
	temp := filepath.Join(b.Cache, fmt.Sprintf(".current-%d", os.Getpid()))
	if err := os.Symlink(key, temp); err != nil {
		return fmt.Errorf("linking the current build: %w", err)
	}
	if err := os.Rename(temp, b.Current()); err != nil {
		return fmt.Errorf("linking the current build: %w", err)
	}
	return nil
}

// lock prevents concurrent builds. The kernel releases it when its holder dies.
func (b Builder) lock(ctx context.Context) (func(), error) {
	if err := os.MkdirAll(b.Cache, 0o755); err != nil {
		return nil, fmt.Errorf("creating the cache folder: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(b.Cache, "lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the build lock: %w", err)
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for waits := 0; ; waits++ {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = file.Close()
			return nil, fmt.Errorf("taking the build lock: %w", err)
		}
		if waits%15 == 0 {
			b.sayf("Another process is building Kubernetes; waiting, %d s so far", waits)
		}
		select {
		case <-ctx.Done():
			_ = file.Close()
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

func absent(dir string, programs []string) []string {
	var missing []string
	for _, name := range programs {
		if info, err := os.Stat(filepath.Join(dir, name)); err != nil || info.IsDir() {
			missing = append(missing, name)
		}
	}
	return missing
}

func goEnv(ctx context.Context, dir string, names ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"env"}, names...)...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("asking go for its version (is Go on the PATH? this was built with %s): %w", runtime.Version(), err)
	}
	return strings.Join(strings.Fields(string(out)), " "), nil
}
