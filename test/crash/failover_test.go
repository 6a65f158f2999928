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

	"github.com/rekey/rekey/test/world"
)

// What the shipped lease promises: it runs out 15 s after its holder has died, and the other one asks every 2 s or so; a
// holder that ends in order gives it back.
const (
	takeover = 25 * time.Second
	handover = 8 * time.Second
)

// shippedArgs are those of the manifest, but for addresses, which are one pod's own.
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

// holder gives who has the lease; empty where nobody has.
func (p place) holder(ctx context.Context) (string, error) {
	var lease coordinationv1.Lease
	err := env.kube.Get(ctx, client.ObjectKey{Namespace: p.operators, Name: "rekey.rekey.dev"}, &lease)
	if err != nil || lease.Spec.HolderIdentity == nil {
		return "", client.IgnoreNotFound(err)
	}
	return *lease.Spec.HolderIdentity, nil
}

// lead waits until somebody leads who is not the one before.
func (s *scene) lead(t *testing.T, before string, within time.Duration) (holder string, took time.Duration) {
	t.Helper()
	begun := time.Now()
	err := await(t.Context(), within, func(ctx context.Context) error {
		var err error
		if holder, err = s.place.holder(ctx); err != nil {
			return err
		}
		if holder == "" || holder == before {
			return fmt.Errorf("%q leads", holder)
		}
		return nil
	})
	if err != nil {
		t.Fatalf("waiting for another leader than %q: %v", before, err)
	}
	return holder, time.Since(begun)
}

func TestAnotherProcessTakesOverARotationThatItsLeaderDiedIn(t *testing.T) {
	dice := diceOf(t)
	prepare(t)
	k := &killer{scene: stage(t, dice, "failover", shippedArgs(t)...), t: t, dice: dice}
	// The database has said yes, and nothing of that is written down.
	first := k.lives.start("after Stage: commit#6")
	one, _ := k.lead(t, "", patience)
	second := k.lives.start("")
	select {
	case <-first.ended:
	case <-time.After(patience):
		t.Fatal("the leader did not come to its point: " + first.words())
	}
	if !first.diedAtPoint() || !first.killed() {
		t.Fatalf("the leader ended otherwise than at its point (%s): %s", first.cmd.ProcessState, first.words())
	}
	unfinished := 0
	for name := range k.servers {
		if ledger, err := k.place.ledger(t.Context(), name); err == nil && ledger.Pending != nil {
			unfinished++
		}
	}
	if unfinished == 0 {
		t.Error("the leader died in the middle of no rotation")
	}
	two, took := k.lead(t, one, takeover)
	t.Logf("SIGKILL in the middle of %d rotations: another process led after %s", unfinished, took.Round(100*time.Millisecond))
	for _, point := range second.passed() {
		if point != "" && !strings.HasSuffix(point, "leases") {
			t.Logf("its first effect: %s", point)
			break
		}
	}
	k.hush(t)
	// Now the leader ends in order: it gives the lease back.
	third := k.lives.start("")
	if err := third.awaitReady(t.Context()); err != nil {
		t.Fatal(err)
	}
	_ = second.cmd.Process.Signal(syscall.SIGTERM)
	_, took = k.lead(t, two, handover)
	t.Logf("SIGTERM: another process led after %s", took.Round(100*time.Millisecond))
	select {
	case <-second.ended:
	case <-time.After(patience):
		t.Error("the old leader does not end")
	}
	k.hush(t)
	k.busy.stop()
	k.unschedule(t) // the operators of the next test see these objects, too
	k.clients.end(t)
	k.nothingOld(t)
	k.nothingSaid(t)
	t.Logf("%d logins, %d handshakes, %d refused or failed", k.clients.logins, k.clients.handshakes, len(k.clients.failures))
}

// hush waits until everybody has what they wanted, and looks at everything.
func (k *killer) hush(t *testing.T) {
	t.Helper()
	k.busy.gate.Lock()
	defer k.busy.gate.Unlock()
	if err := errors.Join(k.busy.failed(), await(t.Context(), patience, k.settled)); err != nil {
		t.Fatal(err)
	}
	k.invariants(t)
}
