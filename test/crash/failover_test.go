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
	"syscall"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// These are the promises of the shipped lease: it expires 15 s after its holder dies, and the other process checks it about
// every 2 s. A holder that shuts down releases it.
const (
	takeover = 25 * time.Second
	handover = 8 * time.Second
)

// shippedArgs returns the arguments from the manifest, except the addresses, which are specific to one pod.
func shippedArgs(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(world.Root(), "config", "manager", "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for part := range strings.SplitSeq(string(text), "\n---\n") {
			var deployment appsv1.Deployment
			if err := yaml.Unmarshal([]byte(part), &deployment); err != nil || deployment.Kind != "Deployment" {
				continue
			}
			var args []string
			for _, arg := range deployment.Spec.Template.Spec.Containers[0].Args {
				if !strings.Contains(arg, "bind-address") {
					args = append(args, arg)
				}
			}
			return args
		}
	}
	t.Fatal("the manifests have no Deployment")
	return nil
}

// holder returns the holder of the lease, or an empty string.
func (p place) holder(ctx context.Context) (string, error) {
	var lease coordinationv1.Lease
	err := env.kube.Get(ctx, client.ObjectKey{Namespace: p.operators, Name: "rekey.rekey.dev"}, &lease)
	if err != nil || lease.Spec.HolderIdentity == nil {
		return "", client.IgnoreNotFound(err)
	}
	return *lease.Spec.HolderIdentity, nil
}

// awaitLeader waits until a process other than the previous leader leads.
func (s *scene) awaitLeader(t *testing.T, before string, within time.Duration) (holder string, took time.Duration) {
	t.Helper()
	started := time.Now()
	err := await(t.Context(), within, func(ctx context.Context) error {
		var err error
		if holder, err = s.place.holder(ctx); err != nil {
			return err
		}
		if holder == "" || holder == before {
			return fmt.Errorf("%q is the leader", holder)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("waiting for a leader other than %q: %v", before, err)
	}
	return holder, time.Since(started)
}

func TestAnotherProcessFinishesTheRotationOfADeadLeader(t *testing.T) {
	random := size.Random(t, 3)
	prepare(t)
	k := &killer{scene: newScene(t, random, "failover", shippedArgs(t)...), t: t, random: random}
	// The database has committed, and the ledger does not record it yet.
	first := k.lives.start("after Stage: commit#6")
	one, _ := k.awaitLeader(t, "", patience)
	second := k.lives.start("")
	select {
	case <-first.ended:
	case <-time.After(patience):
		t.Fatal("the leader did not reach its point: " + first.lastOutput())
	}
	if !first.diedAtPoint() || !first.killed() {
		t.Fatalf("the leader did not die at its point (%s): %s", first.cmd.ProcessState, first.lastOutput())
	}
	unfinished := 0
	for name := range k.servers {
		if ledger, err := k.place.ledger(t.Context(), name); err == nil && ledger.Pending != nil {
			unfinished++
		}
	}
	if unfinished == 0 {
		t.Error("no rotation was in progress when the leader died")
	}
	two, took := k.awaitLeader(t, one, takeover)
	t.Logf("SIGKILL during %d rotations: another process led after %s", unfinished, took.Round(100*time.Millisecond))
	for _, point := range second.passed() {
		if point != "" && !strings.HasSuffix(point, "leases") {
			t.Logf("its first effect: %s", point)
			break
		}
	}
	k.settleAndCheck(t)
	// Now the leader shuts down: it releases the lease.
	third := k.lives.start("")
	if err := third.awaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = second.cmd.Process.Signal(syscall.SIGTERM)
	_, took = k.awaitLeader(t, two, handover)
	t.Logf("SIGTERM: another process led after %s", took.Round(100*time.Millisecond))
	select {
	case <-second.ended:
	case <-time.After(patience):
		t.Error("the old leader does not exit")
	}
	k.settleAndCheck(t)
	k.workload.stop()
	k.stopSchedules(t) // the operators of the next test see these objects, too
	k.clients.end(t)
	k.checkOldCredentialsRejected(t)
	k.checkNoLeaks(t)
	t.Logf("%d logins, %d handshakes, %d rejected or failed", k.clients.logins, k.clients.handshakes, len(k.clients.failures))
}

// settleAndCheck pauses the workload, waits until everything is settled, and checks all invariants.
func (k *killer) settleAndCheck(t *testing.T) {
	t.Helper()
	k.workload.gate.Lock()
	defer k.workload.gate.Unlock()
	if err := errors.Join(k.workload.failed(), await(t.Context(), patience, k.settled)); err != nil {
		t.Fatal(err)
	}
	k.checkInvariants(t)
}
