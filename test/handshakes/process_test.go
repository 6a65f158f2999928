// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshakes

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"
)

// account is the user that peers run as if the tests run as root; several servers refuse root.
const account = "nobody"

// credentials returns the account; nil for the current one.
func credentials(t *testing.T) *syscall.Credential {
	t.Helper()
	if os.Geteuid() != 0 {
		return nil
	}
	found, err := user.Lookup(account)
	if err != nil {
		t.Fatal(err)
	}
	uid, _ := strconv.ParseUint(found.Uid, 10, 32)
	gid, _ := strconv.ParseUint(found.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// own passes a file or folder to the account.
func own(t *testing.T, path string) {
	t.Helper()
	if as := credentials(t); as != nil {
		if err := os.Chown(path, int(as.Uid), int(as.Gid)); err != nil {
			t.Fatal(err)
		}
	}
}

// scratch creates a folder that the account owns and can enter.
func scratch(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "rekey-handshakes-") //nolint:usetesting // the other account cannot enter the folder above t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	own(t, dir)
	return dir
}

// find returns the path of a command; those of servers may be missing from PATH.
func find(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin", "/sbin"} {
		if info, err := os.Stat(filepath.Join(dir, name)); err == nil && !info.IsDir() {
			return filepath.Join(dir, name)
		}
	}
	t.Fatalf("the command %s was not found; run hack/install-deps.sh test java peers", name)
	return ""
}

func command(t *testing.T, dir, name string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(find(t, name), args...)
	cmd.Dir = dir
	cmd.Env = []string{"PATH=/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL=C", "TZ=UTC", "HOME=" + dir}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Credential: credentials(t)}
	return cmd
}

// process is a running peer.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	log  string
}

// spawn starts a peer. It is stopped by its pid at the latest when the test ends, and by the kernel if the test dies: the kernel
// ties that to the thread that forks, so that thread is kept.
func spawn(t *testing.T, dir, name string, args ...string) *process {
	t.Helper()
	p := &process{cmd: command(t, dir, name, args...), done: make(chan struct{}), log: filepath.Join(dir, filepath.Base(name)+".out")}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait()
			close(p.done)
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.stop)
	return p
}

// stop ends the process and waits for it.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have stopped already
	select {
	case <-p.done:
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.done
	}
}

// await waits until the peer accepts connections, or returns an error if it has exited. A peer that cannot have its port exits.
func (p *process) await(t *testing.T, address string) error {
	t.Helper()
	for range 1200 {
		select {
		case <-p.done:
			return errors.New("it has exited: " + p.text())
		default:
		}
		if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			return conn.Close()
		}
		time.Sleep(50 * time.Millisecond)
	}
	return errors.New("it does not listen: " + p.text())
}

func (p *process) text() string {
	text, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-2000):])
}

// given are the ports that freePort has returned: the kernel may choose one again.
var given sync.Map

// freePort returns a port that was free a moment ago, and that it has not returned before.
func freePort(t *testing.T) string {
	t.Helper()
	for range 100 {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		_, port, err := net.SplitHostPort(listener.Addr().String())
		_ = listener.Close()
		if err != nil {
			t.Fatal(err)
		}
		if _, known := given.LoadOrStore(port, true); !known {
			return port
		}
	}
	t.Fatal("there is no free port")
	return ""
}

// closedPort returns a port on which nothing listens. Nobody else can take it until the test ends: a socket is bound to it.
func closedPort(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	if err := syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	bound, ok := name.(*syscall.SockaddrInet4)
	if !ok {
		t.Fatalf("a socket of IPv4 has the address %v", name)
	}
	return strconv.Itoa(bound.Port)
}
