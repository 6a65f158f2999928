// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// Images. The operator's is the one that the manifests name.
const (
	operatorImage = "rekey.dev/rekey:v0.1.0"
	appImage      = "rekey.dev/e2e-app:e2e"
	serverImage   = "rekey.dev/e2e-server:e2e"
)

// environment is shared by all tests.
type environment struct {
	root string // Of the repository.
	dir  string // Scratch, removed at the end.

	cluster    *cluster
	kubectl    string
	kubeconfig string
	kube       client.WithWatch
	clientset  *kubernetes.Clientset
	database   *database
	logs       *operatorLogs
	secrets    *seenSecrets
	explained  bool // A failure happened.
}

// env is set by TestMain.
var env *environment

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	env = &environment{}
	defer env.stop()
	if err := env.start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "preparing the end-to-end tests:", err)
		return 1
	}
	ended := make(chan int, 1)
	go func() { ended <- m.Run() }()
	select {
	case code := <-ended:
		return code
	case <-ctx.Done():
		fmt.Fprintln(os.Stderr, "interrupted")
		return 130
	}
}

// start builds everything, starts the cluster and the database, and loads the images on the node.
func (e *environment) start(ctx context.Context) error {
	var err error
	if e.root, err = filepath.Abs(filepath.Join("..", "..")); err != nil {
		return err
	}
	if e.dir, err = os.MkdirTemp("", "rekey-e2e-"); err != nil { // Short: socket paths have a limit.
		return err
	}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{
		{"building programs and images", e.build},
		{"starting a cluster with a node", e.startCluster},
		{"loading the images on the node", e.loadImages},
		{"starting PostgreSQL", e.startDatabase},
	} {
		begin := time.Now()
		if err := step.do(ctx); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Printf("%s took %s\n", step.name, time.Since(begin).Round(100*time.Millisecond))
	}
	return nil
}

// stop stops everything, in reverse order.
func (e *environment) stop() {
	if e.logs != nil {
		e.logs.stop()
	}
	if e.secrets != nil {
		e.secrets.stop()
	}
	if e.database != nil {
		e.database.Stop()
	}
	if e.cluster != nil {
		e.cluster.stop()
	}
	if e.dir != "" {
		_ = os.RemoveAll(e.dir)
	}
}

func (e *environment) image(name string) string { return filepath.Join(e.dir, name+".tar") }

// build builds the operator's image as a user does, and the other images beside it.
func (e *environment) build(ctx context.Context) error {
	if _, err := e.run(ctx, "make", "image", "IMG="+operatorImage); err != nil {
		return err
	}
	out := e.dir + string(filepath.Separator)
	if _, err := e.run(ctx, "go", "-C", "hack/localcluster", "build", "-o", out, "./cmd/localcluster", "./cmd/image"); err != nil {
		return err
	}
	if _, err := e.run(ctx, "env", "CGO_ENABLED=0", "go", "-C", "hack/demo", "build", "-trimpath", "-ldflags", "-s -w", "-o", out, "./app", "./server"); err != nil {
		return err
	}
	for name, image := range map[string]string{"app": appImage, "server": serverImage} {
		_, err := e.run(ctx, filepath.Join(e.dir, "image"), "--out", e.image(name), "--name", image,
			"--binary", filepath.Join(e.dir, name), "--entrypoint", "/"+name)
		if err != nil {
			return err
		}
	}
	return nil
}

func (e *environment) startCluster(ctx context.Context) error {
	var err error
	if e.cluster, err = startCluster(ctx, e); err != nil {
		return err
	}
	e.kubeconfig, e.kubectl = e.cluster.state["KUBECONFIG"], filepath.Join(e.cluster.state["KUBEBUILDER_ASSETS"], "kubectl")
	config, err := clientcmd.BuildConfigFromFlags("", e.kubeconfig)
	if err != nil {
		return err
	}
	config.QPS, config.Burst, config.WarningHandler = 200, 400, rest.NoWarnings{}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			return err
		}
	}
	if e.kube, err = client.NewWithWatch(config, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	if e.clientset, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	e.logs, e.secrets = followOperator(e.clientset), watchSecrets(e.clientset)
	return nil
}

func (e *environment) loadImages(ctx context.Context) error {
	_, err := e.run(ctx, e.cluster.binary, "load", "--dir", e.cluster.dir, filepath.Join("dist", "rekey.tar"), e.image("app"), e.image("server"))
	return err
}
