// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"syscall"
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

// moments of a rotation, each as the ledger shows it right after a write. A process that dies then has started the next
// step.
var moments = []struct {
	name string
	is   func(secretstore.Ledger) bool
}{
	{"recorded", func(l secretstore.Ledger) bool { return l.Pending != nil && l.Pending.Stage == rotation.Proposed }},
	{"accepted by the server", func(l secretstore.Ledger) bool { return l.Pending != nil && l.Pending.Stage == rotation.Staged }},
	{"proven", func(l secretstore.Ledger) bool { return l.Pending != nil && l.Pending.Stage == rotation.Verified }},
	{"current, but not published", func(l secretstore.Ledger) bool { return l.Current != nil && l.Current.PublishedAt.IsZero() }},
	{"published, and the previous one retired", func(l secretstore.Ledger) bool { return l.Pending == nil && l.Previous == nil }},
}

// killed rotates three credentials continuously and kills the operator at every moment of a rotation, in turn: once by a
// signal to its process, once with its whole pod.
func killed(s scene) {
	t := s.T
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
	readers := startClients(ctx, p, credentials)
	asking := startAsking(ctx, p, credentials)
	unfinished, kills, dead := 0, 2*len(moments), ""
	for i := range kills {
		moment := moments[i%len(moments)]
		var victim string
		victim, dead = killAt(t, p, moment.is, i < len(moments), dead)
		if isUnfinished(p, credentials) {
			unfinished++
		}
		t.Logf("kill %d: %s, when a new version was %s", i+1, victim, moment.name)
		if i > 0 { // The first time another replica leads once the lease has expired; waiting for that each time would prove no more.
			err := env.kube.Delete(t.Context(), &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: operatorLease}})
			if client.IgnoreNotFound(err) != nil {
				t.Fatal(err)
			}
		}
	}
	tokens := asking()
	settled := awaitSettled(t, p, credentials, tokens)
	readers.end(t)
	t.Logf("%d of %d kills left a rotation unfinished", unfinished, kills)
	if unfinished < kills/3 {
		t.Errorf("only %d of %d kills left a rotation unfinished: the operator was hardly ever in the middle of one", unfinished, kills)
	}
	for _, credential := range credentials {
		nothingLeft(t, p, credential.Name, settled[credential.Name], readers.seen[credential.Name])
	}
	onlyTheirs(t, p, credentials)
	awaitOperator(t)
}

// isUnfinished reports whether a rotation has started and not ended.
func isUnfinished(p place, credentials []*v1alpha1.DatabaseCredential) bool {
	return slices.ContainsFunc(credentials, func(c *v1alpha1.DatabaseCredential) bool {
		ledger, err := p.ledger(c.Name)
		return err == nil && (ledger.Pending != nil || ledger.Current.PublishedAt.IsZero())
	})
}

// killAt kills the leader, which is not the one that died last, right after it wrote a matching ledger: its process, or its
// pod. It returns which, and the leader's identity.
func killAt(t *testing.T, p place, fits func(secretstore.Ledger) bool, process bool, dead string) (victim, holder string) {
	t.Helper()
	for {
		pod, pid, holder := awaitLeader(t, dead)
		ctx, cancel := context.WithTimeout(t.Context(), soon)
		err := awaitWritten(ctx, p, fits)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
		how := "the pod "
		if process {
			how = "the process of "
			err = syscall.Kill(pid, syscall.SIGKILL)
		} else {
			err = env.kube.Delete(t.Context(), pod, client.GracePeriodSeconds(0)) // As kubectl delete --force --grace-period=0 does.
		}
		if err == nil {
			return how + pod.Name, holder
		}
		t.Logf("the target of the kill is already gone: %v", err)
	}
}

// awaitLeader waits for a running leader after the one that died last, and returns its pod and its process ID on this
// machine.
func awaitLeader(t *testing.T, dead string) (pod *corev1.Pod, pid int, holder string) {
	t.Helper()
	eventually(t, soon, "waiting for a leader", func() error {
		var err error
		if pod, holder, err = leader(t); err != nil {
			return err
		}
		if holder == dead {
			return errors.New("the lease of the killed leader has not expired")
		}
		pid, err = processOf(pod)
		return err
	})
	return pod, pid, holder
}

// awaitWritten waits until a matching ledger is written, from now on.
func awaitWritten(ctx context.Context, p place, fits func(secretstore.Ledger) bool) error {
	ledgers := metav1.ListOptions{FieldSelector: "type=" + v1alpha1.SecretTypeLedger}
	list, err := env.clientset.CoreV1().Secrets(p.name).List(ctx, ledgers)
	if err != nil {
		return err
	}
	ledgers.ResourceVersion = list.ResourceVersion
	watcher, err := env.clientset.CoreV1().Secrets(p.name).Watch(ctx, ledgers)
	if err != nil {
		return err
	}
	defer watcher.Stop()
	for event := range watcher.ResultChan() {
		if secret, ok := event.Object.(*corev1.Secret); ok {
			if ledger, err := secretstore.DecodeLedger(secret.Data); err == nil && fits(ledger) {
				return nil
			}
		}
	}
	return errors.Join(errors.New("no matching ledger was written"), ctx.Err())
}

// startAsking continuously requests a rotation of every credential, by annotation. The returned function stops that, and
// returns the last value for each.
func startAsking(ctx context.Context, p place, credentials []*v1alpha1.DatabaseCredential) func() map[string]string {
	ctx, cancel := context.WithCancel(ctx)
	brought := context.WithoutCancel(ctx) // To its end: otherwise it is unknown whether the last request arrived.
	var running sync.WaitGroup
	tokens := map[string]string{}
	running.Go(func() {
		until(ctx, 250*time.Millisecond, func() {
			for _, credential := range credentials {
				token := time.Now().UTC().Format(time.RFC3339Nano)
				patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, v1alpha1.AnnotationRotate, token)
				object := &v1alpha1.DatabaseCredential{ObjectMeta: p.meta(credential.Name)}
				if env.kube.Patch(brought, object, client.RawPatch(types.MergePatchType, []byte(patch))) == nil {
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

// clients log in continuously with the current contents of the Secrets.
type clients struct {
	stop     context.CancelFunc
	running  sync.WaitGroup
	mu       sync.Mutex
	logins   int // Logins that worked.
	late     int // Refusals that prove nothing: the client took longer than the overlap.
	failures []error
	seen     map[string][]map[string][]byte // Everything that was ever published, in order, by credential.
}

func startClients(ctx context.Context, p place, credentials []*v1alpha1.DatabaseCredential) *clients {
	c := &clients{seen: map[string][]map[string][]byte{}}
	ctx, c.stop = context.WithCancel(ctx)
	for _, credential := range credentials {
		credential := credential.DeepCopy() // Others read theirs again meanwhile.
		c.running.Go(func() { until(ctx, 100*time.Millisecond, func() { c.try(ctx, p, credential) }) })
	}
	return c
}

// try reads a Secret and logs in with it. A login that has started is completed.
func (c *clients) try(ctx context.Context, p place, credential *v1alpha1.DatabaseCredential) {
	ctx = context.WithoutCancel(ctx)
	read := time.Now()
	secret := &corev1.Secret{}
	err := env.kube.Get(ctx, p.key(string(credential.Spec.SecretName)), secret)
	if err == nil {
		_, err = env.database.logIn(ctx, secret.Data)
	}
	took := time.Since(read)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.logins++
	case errors.Is(err, errRefused) && took >= overlap:
		c.late++
	default:
		c.failures = append(c.failures, fmt.Errorf("%s, revision %s, read %s before: %w",
			time.Now().UTC().Format(time.RFC3339Nano), secret.Annotations[v1alpha1.AnnotationRevision], took, err))
	}
	if all := c.seen[credential.Name]; len(all) == 0 || !bytes.Equal(all[len(all)-1]["password"], secret.Data["password"]) {
		c.seen[credential.Name] = append(all, secret.Data)
	}
}

// end waits until every login has ended, and reports those that failed.
func (c *clients) end(t *testing.T) {
	t.Helper()
	c.stop()
	c.running.Wait()
	for _, err := range c.failures[:min(len(c.failures), 10)] {
		t.Errorf("a client that read the Secret and logged in at once: %v", err)
	}
	t.Logf("%d logins worked, %d failed, %d came after the overlap", c.logins, len(c.failures), c.late)
	if c.logins < 100 || c.late > c.logins/10 {
		t.Errorf("too few logins to judge: %d worked, %d came after the overlap", c.logins, c.late)
	}
}

// awaitSettled waits until every ledger has nothing to do: no candidate, no version in its overlap, the last request carried
// out.
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
			case ledger.Rotate.Honored != tokens[credential.Name]:
				return fmt.Errorf("the last request %s is not carried out, only %s", tokens[credential.Name], ledger.Rotate.Honored)
			case ledger.Previous != nil:
				return fmt.Errorf("version %d is not retired", ledger.Previous.Seq)
			}
			return nil
		})
		ready(t, credential)
	}
	return settled
}

// nothingLeft checks one credential after the storm: the Secret holds the current version, there are at most two logins, and
// of everything ever published only the last version is accepted.
func nothingLeft(t *testing.T, p place, name string, ledger secretstore.Ledger, published []map[string][]byte) {
	t.Helper()
	current := p.secret(name + "-login")
	if string(current.Data["password"]) != ledger.Current.Material.String("password") {
		t.Errorf("%s: the Secret does not hold the current version of the ledger", name)
	}
	if login, err := env.database.logIn(t.Context(), current.Data); err != nil || login != ledger.Current.Material.String("username") {
		t.Errorf("%s: the published login: %q, %v", name, login, err)
	}
	if logins, want := env.database.logins(t, "e2e_"+name+"_"), []string{"e2e_" + name + "_a", "e2e_" + name + "_b"}; !slices.Equal(logins, want) {
		t.Errorf("%s has the logins %v, want %v", name, logins, want)
	}
	if len(published) < 3 {
		t.Errorf("%s was published only %d times", name, len(published))
	}
	for i, old := range published {
		if string(old["password"]) == string(current.Data["password"]) {
			continue
		}
		if _, err := env.database.logIn(t.Context(), old); !errors.Is(err, errRefused) {
			t.Errorf("%s: published version %d of %d: %v, want a refusal", name, i+1, len(published), err)
		}
	}
}

// onlyTheirs searches for Secrets and logins without an owner.
func onlyTheirs(t *testing.T, p place, credentials []*v1alpha1.DatabaseCredential) {
	t.Helper()
	want := []string{"db-admin"}
	var logins []string
	for _, credential := range credentials {
		want = append(want, string(credential.Spec.SecretName), secretstore.LedgerName("DatabaseCredential", credential.Name))
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
		if !slices.Contains(logins, login) && !strings.HasPrefix(login, "e2e_long_") { // That one was retained.
			t.Errorf("the login %s has no owner", login)
		}
	}
}
