// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"k8s.io/client-go/tools/clientcmd"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/rekey/rekey/test/world"
)

// environment is shared by the tests of this package. The first test that needs it creates it.
type environment struct {
	dir        string // scratch
	binary     string // the operator, with failpoints
	launcher   *program
	kubeconfig string
	kube       client.WithWatch
	databases  map[int]*database // by version
	places     []place
}

var (
	env  environment
	made sync.Once
)

func TestMain(m *testing.M) {
	go fork()
	ctrl.SetLogger(logr.Discard())
	code := m.Run()
	env.stop()
	os.Exit(code)
}

// prepare creates the shared environment.
func prepare(t *testing.T) {
	t.Helper()
	err := errors.New("an earlier test failed to prepare the environment")
	made.Do(func() { err = env.start(context.Background()) })
	if env.kube == nil {
		t.Fatal(err)
	}
}

func (e *environment) start(ctx context.Context) error {
	var err error
	if e.dir, err = scratch(); err != nil {
		return err
	}
	e.binary = filepath.Join(e.dir, "rekey")
	if _, err := runProgram(ctx, "go", "build", "-tags", "failpoints", "-o", e.binary, "."); err != nil {
		return err
	}
	e.databases = map[int]*database{}
	for _, version := range []int{15, 18} {
		if e.databases[version], err = startDatabase(ctx, version); err != nil {
			return err
		}
	}
	if err := e.startCluster(ctx); err != nil {
		return err
	}
	config, err := clientcmd.BuildConfigFromFlags("", e.kubeconfig)
	if err != nil {
		return err
	}
	config.QPS = -1
	crds := envtest.CRDInstallOptions{Paths: []string{filepath.Join(world.Root(), "config", "crd", "bases")}, ErrorIfPathMissing: true}
	if _, err := envtest.InstallCRDs(config, crds); err != nil {
		return err
	}
	scheme, err := world.Scheme()
	if err != nil {
		return err
	}
	e.kube, err = client.NewWithWatch(config, client.Options{Scheme: scheme})
	return err
}

// scratch creates a directory whose name contains our pid, and removes those of processes that no longer exist.
func scratch() (string, error) {
	const prefix = "rekey-crash-"
	entries, err := os.ReadDir(os.TempDir())
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		var pid int
		if _, err := fmt.Sscanf(entry.Name(), prefix+"%d-", &pid); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(filepath.Join(os.TempDir(), entry.Name())) // another run may also be removing it
		}
	}
	return os.MkdirTemp("", fmt.Sprintf("%s%d-", prefix, os.Getpid()))
}

// startCluster starts the API server, etcd and the controllers of Kubernetes, whose garbage collector deletes dependents.
func (e *environment) startCluster(ctx context.Context) error {
	binary, dir := filepath.Join(e.dir, "localcluster"), filepath.Join(e.dir, "c")
	if _, err := runProgram(ctx, "go", "-C", "hack/localcluster", "build", "-o", binary, "./cmd/localcluster"); err != nil {
		return err
	}
	var err error
	// The launcher stops its processes when we ask it to, and when it dies.
	if e.launcher, err = launch(filepath.Join(e.dir, "cluster.log"), syscall.SIGTERM, nil, binary, "up", "--level", "control", "--dir", dir); err != nil {
		return err
	}
	return await(ctx, 20*time.Minute, func(ctx context.Context) error { // it may have to build Kubernetes
		if !e.launcher.running() {
			return fmt.Errorf("%w: the local Kubernetes has exited: %s", errPermanent, e.launcher.lastOutput())
		}
		out, err := runProgram(ctx, binary, "status", "--dir", dir)
		if err != nil {
			return err
		}
		if !strings.Contains(out, "READY=true") {
			return errors.New("the local Kubernetes is not ready")
		}
		_, after, _ := strings.Cut(out, "KUBECONFIG=")
		e.kubeconfig, _, _ = strings.Cut(after, "\n")
		return nil
	})
}

func (e *environment) stop() {
	for _, database := range e.databases {
		if database != nil {
			database.Stop()
		}
	}
	if e.launcher != nil {
		if err := e.launcher.signal(syscall.SIGTERM, time.Minute); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
	if e.dir != "" {
		_ = os.RemoveAll(e.dir)
	}
}
