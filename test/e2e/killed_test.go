// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// kills is how often the operator dies.
const kills = 6

// killed rotates three credentials without a pause and kills the operator whenever it is in the middle of one.
func killed(t *testing.T) {
	p := newPlace(t, "e2e-kills")
	var credentials []*v1alpha1.DatabaseCredential
	for _, name := range []string{"one", "two", "three"} {
		credentials = append(credentials, p.credential(name, v1alpha1.DeletionDelete))
	}
	for _, credential := range credentials {
		ready(t, credential)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	clients := startClients(ctx, p, credentials)
	asking := startAsking(ctx, p, credentials)
	caught := 0
	for i := range kills {
		stage, pod := killInTheMiddle(t, p, i)
		if isPending(p, credentials) {
			caught++
		}
		t.Logf("kill %d: %s, while a new version was %s", i+1, pod, stage)
		if i > 0 { // the first time somebody else leads when the lease has run out; waiting that long each time proves no more
			err := env.kube.Delete(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: operatorLease}})
			if client.IgnoreNotFound(err) != nil {
				t.Fatal(err)
			}
		}
		eventually(t, soon, "waiting for another leader", func() error {
			other, err := leader(t)
			if err != nil {
				return err
			}
			_, err = processOf(other)
			return err
		})
	}
	tokens := asking()
	settled := awaitSettled(t, p, credentials, tokens)
	stop()
	refused, seen := clients()
	for _, err := range refused {
		t.Errorf("a client that read the Secret and logged in at once: %v", err)
	}
	if caught == 0 {
		t.Errorf("none of %d kills left a new version unfinished: the operator was never killed in the middle of a rotation", kills)
	}
	for _, credential := range credentials {
		nothingLeft(t, p, credential.Name, settled[credential.Name], seen[credential.Name])
	}
	onlyTheirs(t, p, credentials)
	awaitOperator(t)
}

// isPending tells whether a new version is written down and not finished.
func isPending(p place, credentials []*v1alpha1.DatabaseCredential) bool {
	return slices.ContainsFunc(credentials, func(c *v1alpha1.DatabaseCredential) bool {
		ledger, err := p.ledger(c.Name)
		return err == nil && ledger.Pending != nil
	})
}

// killInTheMiddle waits until a ledger shows a new version on its way, and kills the leader at that moment: every other
// time by a signal to its process, else with its whole pod.
func killInTheMiddle(t *testing.T, p place, number int) (rotation.Stage, string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), soon)
	defer cancel()
	for {
		stage, err := awaitPending(ctx, p)
		if err != nil {
			t.Fatalf("waiting for a rotation after %d kills: %v", number, err)
		}
		if number%2 == 1 {
			pod, err := leader(t)
			if err != nil {
				continue
			}
			kubectl(t, "delete", "pod", pod.Name, "-n", operatorNamespace, "--grace-period=0", "--force")
			return stage, "the pod " + pod.Name
		}
		if pod, err := killLeader(t); err == nil {
			return stage, "the process of " + pod.Name
		}
	}
}

// awaitPending waits for a ledger that is written with a pending version.
func awaitPending(ctx context.Context, p place) (rotation.Stage, error) {
	watcher, err := env.clientset.CoreV1().Secrets(p.name).Watch(ctx, metav1.ListOptions{FieldSelector: "type=" + v1alpha1.SecretTypeLedger})
	if err != nil {
		return "", err
	}
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		if secret, ok := event.Object.(*corev1.Secret); ok {
			if ledger, err := secretstore.DecodeLedger(secret.Data); err == nil && ledger.Pending != nil {
				return ledger.Pending.Stage, nil
			}
		}
	}
	return "", errors.Join(errors.New("no version was pending"), ctx.Err())
}

// startAsking asks for a rotation of every credential again and again, by annotation. What it returns ends that, and
// gives the last value for each.
func startAsking(ctx context.Context, p place, credentials []*v1alpha1.DatabaseCredential) func() map[string]string {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	tokens := map[string]string{}
	running.Go(func() {
		until(ctx, func() {
			for _, credential := range credentials {
				token := time.Now().UTC().Format(time.RFC3339Nano)
				patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationRotate, token)
				object := &v1alpha1.DatabaseCredential{ObjectMeta: p.meta(credential.Name)}
				if env.kube.Patch(ctx, object, client.RawPatch(types.MergePatchType, []byte(patch))) == nil {
					tokens[credential.Name] = token
				}
			}
		})
	})
	return func() map[string]string {
		cancel()
		running.Wait()
		return tokens
	}
}

// startClients logs in without a pause with what the Secrets show at that moment. What it returns ends that, and gives
// every failure and everything that was ever published, in order.
func startClients(ctx context.Context, p place, credentials []*v1alpha1.DatabaseCredential) func() ([]error, map[string][]map[string][]byte) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	var mu sync.Mutex
	var failures []error
	calls := 0
	seen := map[string][]map[string][]byte{}
	for _, credential := range credentials {
		running.Go(func() {
			until(ctx, func() {
				secret := &corev1.Secret{}
				if err := env.kube.Get(ctx, p.key(credential.Name), secret); err != nil {
					if ctx.Err() == nil {
						mu.Lock()
						failures = append(failures, err)
						mu.Unlock()
					}
					return
				}
				_, err := env.database.logIn(context.WithoutCancel(ctx), secret.Data) // what has begun is brought to its end
				mu.Lock()
				defer mu.Unlock()
				calls++
				if err != nil {
					failures = append(failures, fmt.Errorf("%s, revision %s: %w", time.Now().UTC().Format(time.RFC3339Nano), secret.Annotations[v1alpha1.AnnotationRevision], err))
				}
				if all := seen[credential.Name]; len(all) == 0 || string(all[len(all)-1]["password"]) != string(secret.Data["password"]) {
					seen[credential.Name] = append(all, secret.Data)
				}
			})
		})
	}
	return func() ([]error, map[string][]map[string][]byte) {
		cancel()
		running.Wait()
		if calls < 10*kills {
			failures = append(failures, fmt.Errorf("only %d logins were tried", calls))
		}
		return failures, seen
	}
}

// awaitSettled waits until every ledger has nothing to do: no version on its way, none in its overlap, the last request
// carried out.
func awaitSettled(t *testing.T, p place, credentials []*v1alpha1.DatabaseCredential, tokens map[string]string) map[string]secretstore.Ledger {
	t.Helper()
	settled := map[string]secretstore.Ledger{}
	for _, credential := range credentials {
		eventually(t, soon, "waiting until "+credential.Name+" is settled", func() error {
			ledger, err := p.ledger(credential.Name)
			if err != nil {
				return err
			}
			settled[credential.Name] = ledger
			switch {
			case ledger.Pending != nil:
				return fmt.Errorf("version %d is %s", ledger.Pending.Seq, ledger.Pending.Stage)
			case ledger.Rotate.Honoured != tokens[credential.Name]:
				return fmt.Errorf("the last request %s is not carried out, only %s", tokens[credential.Name], ledger.Rotate.Honoured)
			case ledger.Previous != nil:
				return fmt.Errorf("version %d is not retired", ledger.Previous.Seq)
			}
			return nil
		})
		ready(t, credential)
	}
	return settled
}

// nothingLeft looks at one credential after the storm: the Secret shows the current version, there are two logins at most,
// and of all that was ever published only the last one is accepted.
func nothingLeft(t *testing.T, p place, name string, ledger secretstore.Ledger, published []map[string][]byte) {
	t.Helper()
	current := p.secret(name)
	if string(current.Data["password"]) != ledger.Current.Material.String("password") {
		t.Errorf("%s: the Secret does not show the current version of the ledger", name)
	}
	if login, err := env.database.logIn(t.Context(), current.Data); err != nil || login != ledger.Current.Material.String("username") {
		t.Errorf("%s: the published login: %q, %v", name, login, err)
	}
	if logins, want := env.database.logins(t, "e2e_"+name+"_"), []string{"e2e_" + name + "_a", "e2e_" + name + "_b"}; !slices.Equal(logins, want) {
		t.Errorf("%s has the logins %v, want %v", name, logins, want)
	}
	if len(published) < 3 {
		t.Errorf("%s was published %d times only", name, len(published))
	}
	for i, old := range published {
		if string(old["password"]) == string(current.Data["password"]) {
			continue
		}
		if _, err := env.database.logIn(t.Context(), old); !errors.Is(err, errRefused) {
			t.Errorf("%s: what was published as number %d of %d: %v, want a refusal", name, i+1, len(published), err)
		}
	}
}

// onlyTheirs looks for Secrets and logins that belong to nobody.
func onlyTheirs(t *testing.T, p place, credentials []*v1alpha1.DatabaseCredential) {
	t.Helper()
	want := []string{"db-admin"}
	var logins []string
	for _, credential := range credentials {
		want = append(want, credential.Name, secretstore.LedgerName("DatabaseCredential", credential.Name))
		logins = append(logins, credential.Spec.Username+"_a", credential.Spec.Username+"_b")
	}
	var secrets corev1.SecretList
	if err := env.kube.List(t.Context(), &secrets, client.InNamespace(p.name)); err != nil {
		t.Fatal(err)
	}
	var have []string
	for _, secret := range secrets.Items {
		have = append(have, secret.Name)
	}
	slices.Sort(want)
	slices.Sort(have)
	if !slices.Equal(have, want) {
		t.Errorf("the namespace has the Secrets %v, want %v", have, want)
	}
	for _, login := range env.database.logins(t, "e2e_") {
		if !slices.Contains(logins, login) && !strings.HasPrefix(login, "e2e_long_") { // that one was retained
			t.Errorf("the login %s belongs to nobody", login)
		}
	}
}
