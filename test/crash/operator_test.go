// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/failpoint"
)

// life is one process of the operator, from its start to its death.
type life struct {
	*program
	trace   string // the trace file
	health  string // address
	started time.Time
}

// lives are all processes of the operator in one test.
type lives struct {
	t    *testing.T
	dir  string
	all  []*life
	args []string
}

func newLives(t *testing.T, p place, args ...string) *lives {
	t.Helper()
	return &lives{t: t, dir: t.TempDir(), args: append([]string{
		"--operator-namespace=" + p.operators, "--allow-loopback", "--metrics-bind-address=0",
	}, args...)}
}

// start starts a life that dies at the point, or one without a point.
func (l *lives) start(point string) *life {
	l.t.Helper()
	address, err := freeAddress()
	if err != nil {
		l.t.Fatal(err)
	}
	name := filepath.Join(l.dir, fmt.Sprintf("life-%03d", len(l.all)+1))
	next := &life{trace: name + ".trace", health: address, started: time.Now()}
	variables := []string{"KUBECONFIG=" + env.kubeconfig, failpoint.VariablePoint + "=" + point, failpoint.VariableTrace + "=" + next.trace}
	next.program, err = launch(name+".log", syscall.SIGKILL, variables, env.binary, append(l.args, "--health-probe-bind-address="+address)...)
	if err != nil {
		l.t.Fatal(err)
	}
	l.all = append(l.all, next)
	l.t.Cleanup(func() { _ = next.kill() })
	return next
}

// freeAddress returns a free port of the loopback interface.
func freeAddress() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// kill kills a life now.
func (l *life) kill() error { return l.signal(syscall.SIGKILL, patience) }

// passed returns the points that a life has passed, in order.
func (l *life) passed() []string {
	text, err := os.ReadFile(l.trace)
	if err != nil {
		return nil // none yet
	}
	return strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
}

// diedAtPoint reports whether the life died at its point, according to its trace.
func (l *life) diedAtPoint() bool {
	passed := l.passed()
	return len(passed) > 0 && passed[len(passed)-1] == failpoint.Died
}

// awaitReady waits until the caches of the process are synced.
func (l *life) awaitReady(ctx context.Context) error {
	return await(ctx, patience, func(ctx context.Context) error {
		if !l.running() {
			return fmt.Errorf("%w: the operator has exited: %s", errPermanent, l.lastOutput())
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+l.health+"/readyz", nil)
		if err != nil {
			return err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		defer func() { _ = response.Body.Close() }()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("the operator is not ready: %s", response.Status)
		}
		return nil
	})
}

// output returns the output of every life.
func (l *lives) output() map[string]string {
	out := map[string]string{}
	for _, one := range l.all {
		text, err := os.ReadFile(one.said)
		if err != nil {
			l.t.Error(err)
		}
		out[filepath.Base(one.said)] = string(text)
	}
	return out
}
