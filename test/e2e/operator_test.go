// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// The names in config/.
const (
	operatorNamespace = "rekey-system"
	operatorSelector  = "app.kubernetes.io/name=rekey"
	operatorAccount   = "system:serviceaccount:rekey-system:rekey"
	operatorLease     = "rekey.rekey.dev"
)

// sh runs a program that must succeed, and returns its output.
func sh(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := env.run(t.Context(), name, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// kubectl must succeed.
func kubectl(t *testing.T, args ...string) string {
	t.Helper()
	return sh(t, env.kubectl, args...)
}

// eventually waits until check returns nil.
func eventually(t *testing.T, patience time.Duration, what string, ask func() error) {
	t.Helper()
	if err := poll(t.Context(), patience, ask); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// awaitOperator waits until both replicas are ready and one of them leads.
func awaitOperator(t *testing.T) {
	t.Helper()
	kubectl(t, "-n", operatorNamespace, "rollout", "status", "deployment/rekey", "--timeout=90s")
	eventually(t, time.Minute, "waiting for a leader", func() error {
		_, _, err := leader(t)
		return err
	})
}

// leader returns the pod that holds the lease, and the identity of its process.
func leader(t *testing.T) (pod *corev1.Pod, holder string, err error) {
	t.Helper()
	var lease coordinationv1.Lease
	if err := env.kube.Get(t.Context(), client.ObjectKey{Namespace: operatorNamespace, Name: operatorLease}, &lease); err != nil {
		return nil, "", err
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		return nil, "", errors.New("no replica holds the lease")
	}
	name, _, _ := strings.Cut(*lease.Spec.HolderIdentity, "_")
	pod = &corev1.Pod{}
	if err := env.kube.Get(t.Context(), client.ObjectKey{Namespace: operatorNamespace, Name: name}, pod); err != nil {
		return nil, "", err
	}
	return pod, *lease.Spec.HolderIdentity, nil
}

// processOf finds the operator's process in a pod of our node, by its ID on this machine.
func processOf(pod *corev1.Pod) (int, error) {
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, path := range commands {
		command, err := os.ReadFile(path)
		if err != nil || !bytes.HasPrefix(command, []byte("/rekey\x00")) {
			continue
		}
		groups, err := os.ReadFile(filepath.Join(filepath.Dir(path), "cgroup"))
		if err == nil && strings.Contains(string(groups), string(pod.UID)) {
			return strconv.Atoi(filepath.Base(filepath.Dir(path)))
		}
	}
	return 0, fmt.Errorf("the pod %s has no process of the operator", pod.Name)
}

// explainFailure prints what an operator would inspect. A test does not repeat what one of its stories has printed.
func explainFailure(t *testing.T) {
	t.Helper()
	t.Cleanup(func() {
		if !t.Failed() || env.explained && !strings.Contains(t.Name(), "/") {
			return
		}
		env.explained = true
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // The test's own context has ended.
		defer cancel()
		t.Logf("the operator's last log lines:\n%s", env.logs.tail(50))
		for _, look := range [][]string{
			{"get", "rekey", "-A", "-o", `go-template={{range .items}}{{.kind}} {{.metadata.namespace}}/{{.metadata.name}}{{range .status.conditions}}` +
				`{{"\n  "}}{{.type}}={{.status}} {{.reason}}: {{.message}}{{end}}{{"\n"}}{{end}}`},
			{"get", "pods", "-A", "-o", "wide"},
			{"get", "events", "-A", "--sort-by=.lastTimestamp"},
		} {
			out, err := env.run(ctx, env.kubectl, look...)
			t.Logf("kubectl %s: %v\n%s", strings.Join(look[:2], " "), err, out)
		}
	})
}

// scene is the environment of a story: the test, and the folder with the samples if there is one.
type scene struct {
	*testing.T
	samples string
}

// story is a subtest. Stories that share a cluster run in order.
type story struct {
	name string
	tell func(scene)
}

func play(t *testing.T, samples string, stories []story) {
	t.Helper()
	for _, story := range stories {
		t.Run(story.name, func(t *testing.T) {
			explainFailure(t)
			story.tell(scene{T: t, samples: samples})
		})
	}
}
