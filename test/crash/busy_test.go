// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
)

// busy are people who want something of rekey all the time. They can be asked to wait: then each brings to its end what it
// has begun.
type busy struct {
	place     place
	published *published

	ctx     context.Context // until they want nothing any more
	stop    context.CancelFunc
	gate    sync.RWMutex // held for reading by whoever wants something now
	running sync.WaitGroup

	mu       sync.Mutex
	requests map[string]int // that were carried out, by object
	edits    int
	guests   int
	failures []error
}

// work does something again and again.
func (b *busy) work(rest time.Duration, once func(context.Context) error) {
	b.running.Go(func() {
		for pause(b.ctx, rest) {
			if err := b.begin(once); err != nil {
				b.mu.Lock()
				b.failures = append(b.failures, err)
				b.mu.Unlock()
				return
			}
		}
	})
}

// begin does something once, if anything is wanted yet.
func (b *busy) begin(once func(context.Context) error) error {
	b.gate.RLock()
	defer b.gate.RUnlock()
	if b.ctx.Err() != nil {
		return nil
	}
	return once(context.WithoutCancel(b.ctx))
}

func (b *busy) count(counter *int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*counter++
}

// failed are the failures so far.
func (b *busy) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.failures...)
}

// ask asks for a rotation, and waits until it is carried out. Honoured reads the last request that was.
// A request before there is a first version would be answered by that one, and is not made.
func (b *busy) ask(object client.Object, secret string, honoured func() string) func(context.Context) error {
	number := 0
	return func(ctx context.Context) error {
		if b.published.last(secret) == nil {
			return nil
		}
		number++
		token := strconv.Itoa(number)
		if err := merge(ctx, object, annotation(v1alpha1.AnnotationRotate, token)); err != nil {
			return err
		}
		err := await(ctx, patience, func(context.Context) error {
			if now := honoured(); now != token {
				return fmt.Errorf("the request %s to rotate %s is not carried out, only %q", token, object.GetName(), now)
			}
			return nil
		})
		if err == nil {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.requests[object.GetName()]++
		}
		return err
	}
}

// honouredBy reads the request that was carried out last from what was published.
func (b *busy) honouredBy(credential string) func() string {
	return func() string {
		ledgers, err := b.published.ledgers(credential)
		if err != nil || len(ledgers) == 0 {
			return ""
		}
		return ledgers[len(ledgers)-1].Rotate.Honoured
	}
}

// honouredOn is the same for a certificate, whose Secret remembers it.
func (b *busy) honouredOn(secret string) func() string {
	return func() string {
		if now := b.published.last(secret); now != nil {
			return now.Annotations[v1alpha1.AnnotationRotateHonoured]
		}
		return ""
	}
}

// edit asks for another length of a password, before the last one is finished.
func (b *busy) edit(object client.Object) func(context.Context) error {
	return func(ctx context.Context) error {
		b.count(&b.edits)
		return merge(ctx, object, map[string]any{"spec": map[string]any{"password": map[string]any{"length": 32 + b.edits%16}}})
	}
}

// guest makes one object of every kind, uses what they publish, and takes all of it away again.
func (b *busy) guest(ctx context.Context) error {
	b.count(&b.guests)
	p, name := b.place, "guest-"+strconv.Itoa(b.guests)
	cluster := &v1alpha1.ClusterCertificateAuthority{Spec: v1alpha1.ClusterAuthoritySpec{AuthoritySpec: p.managed(name)}}
	cluster.Name, cluster.Spec.NamespaceSelector = name, &metav1.LabelSelector{}
	version := []int{15, 18}[b.guests%2]
	authority, policy, server := p.authority(name), p.policy(name, time.Hour), p.server(name, version)
	calls := p.clientIdentity(name, v1alpha1.AuthorityKindCluster, name)
	serves := p.serverIdentity(name+"-server", v1alpha1.AuthorityKindNamespaced, name)
	credential := p.credential("guest"+strconv.Itoa(b.guests), name, name)
	credential.Spec.Owner = guests
	// What refers to something comes before it: rekey must say what it waits for, and go on when it is there.
	objects := []client.Object{calls, cluster, serves, authority, credential, policy, server}
	for _, object := range objects {
		if err := env.kube.Create(ctx, object); err != nil {
			return err
		}
	}
	for _, object := range objects {
		if err := await(ctx, patience, func(ctx context.Context) error { return ready(ctx, object) }); err != nil {
			return err
		}
	}
	login, err := p.shown(ctx, credential.Spec.SecretName)
	if err != nil {
		return err
	}
	if err := b.own(ctx, login, p.userOf(credential.Name)); err != nil {
		return err
	}
	if err := b.met(ctx, calls, serves); err != nil {
		return err
	}
	if err := b.keep(ctx, authority); err != nil {
		return err
	}
	return b.leave(ctx, env.databases[version], credential, objects)
}

// shown is what a Secret holds now.
func (p place) shown(ctx context.Context, name v1alpha1.ObjectName) (map[string][]byte, error) {
	secret := &corev1.Secret{}
	err := env.kube.Get(ctx, p.key(string(name)), secret)
	return secret.Data, err
}

// met makes the guest's client and server shake hands.
func (b *busy) met(ctx context.Context, calls *v1alpha1.ClientIdentity, serves *v1alpha1.ServerIdentity) error {
	client, err := b.place.shown(ctx, calls.Spec.SecretName)
	if err != nil {
		return err
	}
	server, err := b.place.shown(ctx, serves.Spec.SecretName)
	if err != nil {
		return err
	}
	if err := meet(ctx, client, server, string(serves.Spec.DNSNames[0])); err != nil {
		return fmt.Errorf("a handshake of a guest: %w", err)
	}
	return nil
}

// own logs in and makes a table that belongs to the login itself, so that dropping it takes more.
func (b *busy) own(ctx context.Context, secret map[string][]byte, name string) error {
	conn, err := session(ctx, secret)
	if err != nil {
		return fmt.Errorf("logging in as a guest: %w", err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "SET ROLE NONE"); err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "CREATE TABLE "+name+" ()")
	return err
}

// keep changes what becomes of an authority's key pair, and waits until Secret and record follow.
func (b *busy) keep(ctx context.Context, authority *v1alpha1.CertificateAuthority) error {
	if err := merge(ctx, authority, map[string]any{"spec": map[string]any{"deletionPolicy": v1alpha1.DeletionRetain}}); err != nil {
		return err
	}
	return await(ctx, patience, func(ctx context.Context) error {
		for _, object := range b.kept(authority) {
			if err := env.kube.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
				return errors.Join(err, ready(ctx, authority))
			}
			if len(object.GetOwnerReferences()) > 0 {
				return errors.Join(fmt.Errorf("%T %s still goes with its authority", object, object.GetName()), ready(ctx, authority))
			}
		}
		return nil
	})
}

// kept are the Secret and the record of an authority.
func (b *busy) kept(authority *v1alpha1.CertificateAuthority) []client.Object {
	return []client.Object{
		&corev1.Secret{ObjectMeta: b.place.meta(string(authority.Spec.SecretName))},
		&corev1.ConfigMap{ObjectMeta: b.place.meta(recordOf(authority.Name))},
	}
}

// leave deletes everything of a guest, and waits until nothing of it is left: no Secret, no ledger, no login.
func (b *busy) leave(ctx context.Context, at *database, credential *v1alpha1.DatabaseCredential, objects []client.Object) error {
	p := b.place
	left := []client.Object{
		&corev1.Secret{ObjectMeta: p.meta(ledgerOf(credential.Name))}, &corev1.Secret{ObjectMeta: p.meta(string(credential.Spec.SecretName))},
	}
	// The server stays until the logins are dropped: without it nobody could.
	if err := env.kube.Delete(ctx, credential); err != nil {
		return err
	}
	if err := await(ctx, patience, func(ctx context.Context) error { return gone(ctx, credential) }); err != nil {
		return err
	}
	roles, err := at.roles(ctx)
	if err != nil {
		return err
	}
	for _, role := range roles {
		if role.name == p.userOf(credential.Name)+"_a" || role.name == p.userOf(credential.Name)+"_b" {
			return fmt.Errorf("the login %s (%q) has outlived its credential", role.name, role.mark)
		}
	}
	for _, object := range objects {
		if object == client.Object(credential) {
			continue
		}
		if err := env.kube.Delete(ctx, object); err != nil {
			return err
		}
		left = append(left, object)
		if authority, ok := object.(*v1alpha1.CertificateAuthority); ok {
			for _, kept := range b.kept(authority) { // which was retained
				if err := env.kube.Delete(ctx, kept); err != nil {
					return err
				}
				left = append(left, kept)
			}
		}
	}
	for _, object := range left {
		if err := await(ctx, patience, func(ctx context.Context) error { return gone(ctx, object) }); err != nil {
			return err
		}
	}
	return nil
}

// recordOf is the ConfigMap with the certificate of an authority.
func recordOf(authority string) string {
	return secretstore.LedgerName(string(v1alpha1.AuthorityKindNamespaced), authority)
}
