// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pgtest

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// KeyPair returns what the server presents to its clients. A proxy that presents the same is taken for the server itself,
// even if the login is bound to the certificate.
func (s *Server) KeyPair() (tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(s.data(), "server.crt"), filepath.Join(s.data(), "server.key"))
	if err != nil {
		return pair, fmt.Errorf("reading the certificate of a test server: %w", err)
	}
	return pair, nil
}

// Crash stops the server as if its machine had lost power: what was not written to the log is lost, and the next Restart
// recovers (an immediate shutdown).
func (s *Server) Crash() {
	s.Thaw()
	_ = s.process.os.Signal(syscall.SIGQUIT) // it may have stopped already
	<-s.process.done
}

// Freeze stops every process of the server where it is: the kernel still accepts connections, but they get no answer.
func (s *Server) Freeze() { s.signalAll(syscall.SIGSTOP) }

// Thaw resumes a frozen server. Without Freeze it has no effect.
func (s *Server) Thaw() { s.signalAll(syscall.SIGCONT) }

func (s *Server) signalAll(signal syscall.Signal) {
	if s.process == nil {
		return
	}
	select {
	case <-s.process.done:
		return // the pid may belong to another process by now
	default:
	}
	// The first process is signaled first: it then starts no more processes.
	_ = s.process.os.Signal(signal)
	for _, pid := range childrenOf(s.process.os.Pid) {
		_ = syscall.Kill(pid, signal) // it may have stopped already
	}
}

// childrenOf reads /proc; every process of a server is a child of its first one.
func childrenOf(parent int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the only error is a bad pattern
	var out []int
	for _, path := range stats {
		text, err := os.ReadFile(path)
		if err != nil {
			continue // it has stopped in the meantime
		}
		// The format is: pid (name, which may contain anything) state ppid ...
		_, after, found := strings.Cut(string(text[max(0, strings.LastIndex(string(text), ")")):]), ") ")
		fields := strings.Fields(after)
		if !found || len(fields) < 2 || fields[1] != strconv.Itoa(parent) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(path))); err == nil {
			out = append(out, pid)
		}
	}
	return out
}

// Copy is a copy of the data of a stopped server.
type Copy struct{ dir string }

// Copy copies the data as it is now. The server must be stopped (Halt).
func (s *Server) Copy() (Copy, error) {
	if err := s.halted("copying"); err != nil {
		return Copy{}, err
	}
	dir, err := os.MkdirTemp(s.dir, "copy-")
	if err != nil {
		return Copy{}, fmt.Errorf("creating a folder for a copy: %w", err)
	}
	return Copy{dir: dir}, copyTree(s.data(), filepath.Join(dir, "data"), s.account, nil)
}

// Restore puts back the data as of the copy. The server must be stopped (Halt); Restart starts it.
func (s *Server) Restore(from Copy) error {
	if err := s.halted("restoring"); err != nil {
		return err
	}
	if err := os.RemoveAll(s.data()); err != nil {
		return fmt.Errorf("removing the data of a test server: %w", err)
	}
	return copyTree(filepath.Join(from.dir, "data"), s.data(), s.account, nil)
}

func (s *Server) halted(doing string) error {
	if s.process != nil {
		select {
		case <-s.process.done:
		default:
			return errors.New(doing + " the data of a test server: it is running: stop it first")
		}
	}
	return nil
}
