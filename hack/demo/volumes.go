// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/test/workload/mount"
)

// volumes writes Secrets to folders as a kubelet does, and follows their changes.
type volumes struct {
	kube   client.Client
	dir    string
	ctx    context.Context //nolint:containedctx // it stops all volumes together
	cancel context.CancelFunc
	follow sync.WaitGroup
}

func newVolumes(kube client.Client, dir string) *volumes {
	ctx, cancel := context.WithCancel(context.Background())
	return &volumes{kube: kube, dir: dir, ctx: ctx, cancel: cancel}
}

// mount creates the folder of an existing Secret and keeps it up to date.
func (v *volumes) mount(ctx context.Context, namespace, name string) (string, error) {
	dir := filepath.Join(v.dir, namespace, name)
	key := client.ObjectKey{Namespace: namespace, Name: name}
	shown, err := v.show(ctx, key, dir, "")
	if err != nil {
		return "", err
	}
	v.follow.Go(func() {
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-v.ctx.Done():
				return
			case <-tick.C:
			}
			if now, err := v.show(v.ctx, key, dir, shown); err == nil {
				shown = now
			}
		}
	})
	return dir, nil
}

// show writes the Secret to its folder unless the folder already has this resource version.
func (v *volumes) show(ctx context.Context, key client.ObjectKey, dir, shown string) (string, error) {
	var secret corev1.Secret
	if err := v.kube.Get(ctx, key, &secret); err != nil {
		return "", fmt.Errorf("reading the Secret %s: %w", key, err)
	}
	if secret.ResourceVersion == shown {
		return shown, nil
	}
	if err := mount.Write(dir, secret.Data); err != nil {
		return "", fmt.Errorf("writing the Secret %s to its folder: %w", key, err)
	}
	return secret.ResourceVersion, nil
}

// stop stops following the Secrets and removes the folders.
func (v *volumes) stop() {
	v.cancel()
	v.follow.Wait()
	_ = os.RemoveAll(v.dir) // the scratch folder is removed next
}
