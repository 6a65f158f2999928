// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

// account is the user that a server runs as; nil means the current user.
type account struct{ uid, gid int }

// unprivileged returns an unprivileged account if we are root, because PostgreSQL refuses root.
func unprivileged() (*account, error) {
	if os.Geteuid() != 0 {
		return nil, nil // the current account
	}
	nobody, err := user.Lookup("nobody")
	if err != nil {
		return nil, fmt.Errorf("finding an unprivileged user to run PostgreSQL: %w", err)
	}
	uid, err := strconv.Atoi(nobody.Uid)
	if err != nil {
		return nil, fmt.Errorf("reading the uid of nobody: %w", err)
	}
	gid, err := strconv.Atoi(nobody.Gid)
	if err != nil {
		return nil, fmt.Errorf("reading the gid of nobody: %w", err)
	}
	return &account{uid: uid, gid: gid}, nil
}

func (a *account) own(path string) error {
	if a == nil {
		return nil
	}
	if err := os.Lchown(path, a.uid, a.gid); err != nil {
		return fmt.Errorf("giving %s to the server's user: %w", path, err)
	}
	return nil
}

func (a *account) attributes() *syscall.SysProcAttr {
	attributes := &syscall.SysProcAttr{Setpgid: true}
	if a != nil {
		attributes.Credential = &syscall.Credential{Uid: uint32(a.uid), Gid: uint32(a.gid)}
	}
	return attributes
}

const scratchPrefix = "rekey-pgtest-"

// scratch creates a folder whose name contains our pid, and removes those of processes that are gone.
func scratch(parent string, owner *account) (string, error) {
	if parent == "" {
		parent = os.TempDir()
	}
	leftovers, _ := filepath.Glob(filepath.Join(parent, scratchPrefix+"*")) // the only error is a bad pattern
	for _, dir := range leftovers {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), scratchPrefix), "-")
		if id, err := strconv.Atoi(pid); err == nil && errors.Is(syscall.Kill(id, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir) // another start may be removing it too
		}
	}
	dir, err := os.MkdirTemp(parent, fmt.Sprintf("%s%d-", scratchPrefix, os.Getpid()))
	if err != nil {
		return "", fmt.Errorf("creating a scratch folder: %w", err)
	}
	return dir, owner.own(dir)
}

func freePort(host string) (int, error) {
	var config net.ListenConfig
	listener, err := config.Listen(context.Background(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	defer func() { _ = listener.Close() }()
	address, ok := listener.Addr().(*net.TCPAddr)
	if !ok {
		return 0, errors.New("finding a free port: not a TCP address")
	}
	return address.Port, nil
}

func command(ctx context.Context, as *account, dir, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = as.attributes()
	return cmd
}

// process is a running postmaster.
type process struct {
	os        *os.Process
	done      chan struct{} // closed when it has stopped
	logOffset int           // where its log output starts
}

// spawn starts the server. It receives SIGQUIT when we die. The kernel ties that to the thread that forks, so that thread is
// kept as long as the server runs.
func spawn(as *account, logPath, dir, name string, args ...string) (*process, error) {
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the log of a test server: %w", err)
	}
	defer func() { _ = log.Close() }()
	info, err := log.Stat()
	if err != nil {
		return nil, fmt.Errorf("reading the size of a test server's log: %w", err)
	}
	cmd := command(context.Background(), as, dir, name, args...) // it lives until Stop, not until a call ends
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr.Pdeathsig = syscall.SIGQUIT
	p := &process{done: make(chan struct{}), logOffset: int(info.Size())}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // the exit status does not matter
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("starting a test server: %w", err)
	}
	p.os = cmd.Process
	return p, nil
}

// end requests a fast shutdown and waits for it.
func (p *process) end() {
	_ = p.os.Signal(syscall.SIGINT) // it may have stopped already
	<-p.done
}

func (p *process) reload() error {
	if err := p.os.Signal(syscall.SIGHUP); err != nil {
		return fmt.Errorf("asking a test server to reload: %w", err)
	}
	return nil
}

// Pid returns the pid of the server's first process.
func (s *Server) Pid() int { return s.process.os.Pid }
