// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/workload/mount"
)

// seen is a Secret at the time when the watch reported it.
type seen struct {
	at     time.Time // when the watch reported it
	secret *corev1.Secret
}

// published records everything that the Secrets of a place have ever shown, including ledgers, and the directories in which
// pods would see them.
type published struct {
	dir string

	mu      sync.Mutex
	history map[string][]seen
	mounts  map[string]chan *corev1.Secret
	err     error
	running sync.WaitGroup
}

// follow watches the Secrets of a place from now on.
func follow(ctx context.Context, t *testing.T, p place) *published {
	t.Helper()
	s := &published{dir: t.TempDir(), history: map[string][]seen{}, mounts: map[string]chan *corev1.Secret{}}
	watcher, err := env.kube.Watch(ctx, &corev1.SecretList{}, client.InNamespace(p.name))
	if err != nil {
		t.Fatal(err)
	}
	s.running.Go(func() {
		defer watcher.Stop()
		for event := range watcher.ResultChan() {
			if secret, ok := event.Object.(*corev1.Secret); ok && event.Type != watch.Deleted {
				s.note(secret)
			}
		}
		if ctx.Err() == nil {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.err = fmt.Errorf("the watch of the Secrets of %s has ended", p.name)
		}
	})
	return s
}

func (s *published) note(secret *corev1.Secret) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.history[secret.Name] = append(s.history[secret.Name], seen{time.Now(), secret})
	if volume := s.mounts[secret.Name]; volume != nil {
		volume <- secret
	}
}

// mount returns the directory in which a pod sees the Secret, with a delay like a kubelet's. It is empty before the Secret
// exists.
func (s *published) mount(ctx context.Context, name string, random *rand.Rand) string {
	dir := filepath.Join(s.dir, name)
	updates := make(chan *corev1.Secret, 10000) // never full: the watch must not block
	s.mu.Lock()
	defer s.mu.Unlock()
	s.mounts[name] = updates
	late := time.Duration(random.Int64N(int64(overlap / 3)))
	s.running.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case secret := <-updates:
				pause(ctx, late)
				if err := mount.Write(dir, secret.Data); err != nil {
					s.mu.Lock()
					s.err = err
					s.mu.Unlock()
				}
			}
		}
	})
	return dir
}

// pause waits; it returns false if the context is done.
func pause(ctx context.Context, long time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(long):
		return true
	}
}

// all returns everything that a Secret has shown, each content once, in order.
func (s *published) all(name string) []seen {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []seen
	for _, one := range s.history[name] {
		if len(out) == 0 || !sameMaterial(out[len(out)-1].secret, one.secret) {
			out = append(out, one)
		}
	}
	return out
}

// sameMaterial reports whether two Secrets show the same version.
func sameMaterial(a, b *corev1.Secret) bool {
	for _, key := range []string{"password", corev1.TLSPrivateKeyKey, corev1.TLSCertKey} {
		if !bytes.Equal(a.Data[key], b.Data[key]) {
			return false
		}
	}
	return true
}

// last returns the latest state of the Secret, or nil.
func (s *published) last(name string) *corev1.Secret {
	s.mu.Lock()
	defer s.mu.Unlock()
	if all := s.history[name]; len(all) > 0 {
		return all[len(all)-1].secret
	}
	return nil
}

// replacedAt returns when another password replaced this one, according to the ledger: the watch may have reported it late. It
// returns zero if that never happened.
func (s *published) replacedAt(credential string, password []byte) (time.Time, error) {
	ledgers, err := s.ledgers(credential)
	if err != nil {
		return time.Time{}, err
	}
	seq := int64(0)
	for _, ledger := range ledgers {
		switch current := ledger.Current; {
		case current == nil:
		case current.Material.String("password") == string(password):
			seq = current.Seq
		case seq != 0 && current.Seq > seq && !current.PublishedAt.IsZero():
			return current.PublishedAt, nil
		}
	}
	return time.Time{}, nil
}

// ledgers returns all states of a credential's ledger.
func (s *published) ledgers(name string) ([]secretstore.Ledger, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []secretstore.Ledger
	for _, one := range s.history[ledgerOf(name)] {
		ledger, err := secretstore.DecodeLedger(one.secret.Data)
		if err != nil {
			return nil, err
		}
		out = append(out, ledger)
	}
	return out, nil
}

func ledgerOf(credential string) string {
	return secretstore.LedgerName("DatabaseCredential", credential)
}

// secrets returns all secret values that were ever written, none of which may appear in a log.
func (s *published) secrets() map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string][]byte{}
	for name, all := range s.history {
		for i, one := range all {
			what := fmt.Sprintf("number %d of Secret %s", i, name)
			for _, key := range []string{"password", corev1.TLSPrivateKeyKey} {
				if value := one.secret.Data[key]; len(value) > 0 {
					out[string(value)] = []byte(what + ", " + key)
				}
			}
			ledger, err := secretstore.DecodeLedger(one.secret.Data)
			if one.secret.Type != v1alpha1.SecretTypeLedger || err != nil {
				continue
			}
			for _, record := range []*secretstore.Record{ledger.Pending, ledger.Current, ledger.Previous} {
				if record != nil {
					out[record.Material.String("password")] = []byte(what)
				}
			}
		}
	}
	byName := map[string][]byte{}
	for value, what := range out {
		byName[string(what)+" "+fmt.Sprint(len(byName))] = []byte(value)
	}
	return byName
}
