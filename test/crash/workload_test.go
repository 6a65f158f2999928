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
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/fixture"
)

// workload is a group of users that continuously make requests of rekey. They can be paused: each one then finishes what it has
// started.
type workload struct {
	place     place
	published *published

	ctx     context.Context // canceled when they stop
	stop    context.CancelFunc
	gate    sync.RWMutex // read-locked by a user while it runs
	running sync.WaitGroup

	mu       sync.Mutex
	requests map[string]int // requests carried out, by object
	edits    int
	guests   int
	failures []error
}

// repeat runs something repeatedly.
func (b *workload) repeat(rest time.Duration, once func(context.Context) error) {
	b.running.Go(func() {
		for pause(b.ctx, rest) {
			if err := b.runOnce(once); err != nil {
				b.mu.Lock()
				b.failures = append(b.failures, err)
				b.mu.Unlock()
				return
			}
		}
	})
}

// runOnce runs something once, unless the workload has been stopped.
func (b *workload) runOnce(once func(context.Context) error) error {
	b.gate.RLock()
	defer b.gate.RUnlock()
	if b.ctx.Err() != nil {
		return nil
	}
	return once(context.WithoutCancel(b.ctx))
}

func (b *workload) count(counter *int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	*counter++
}

// failed returns the failures so far.
func (b *workload) failed() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Join(b.failures...)
}

// requestRotation requests a rotation and waits until it is carried out; honored returns the request that was carried out last.
// A request before the first version exists would be answered by that version, so it is skipped.
func (b *workload) requestRotation(object client.Object, secret string, honored func() string) func(context.Context) error {
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
			if now := honored(); now != token {
				return fmt.Errorf("request %s to rotate %s has not been carried out; the last one was %q", token, object.GetName(), now)
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

// honoredInLedger reads the last honored request of a credential from its published ledger.
func (b *workload) honoredInLedger(credential string) func() string {
	return func() string {
		ledgers, err := b.published.ledgers(credential)
		if err != nil || len(ledgers) == 0 {
			return ""
		}
		return ledgers[len(ledgers)-1].Rotate.Honored
	}
}

// honoredInSecret reads the same for a certificate, from its Secret.
func (b *workload) honoredInSecret(secret string) func() string {
	return func() string {
		if now := b.published.last(secret); now != nil {
			return now.Annotations[v1alpha1.AnnotationRotateHonored]
		}
		return ""
	}
}

// edit changes the length of a password before the previous change is finished.
func (b *workload) edit(object client.Object) func(context.Context) error {
	return func(ctx context.Context) error {
		b.count(&b.edits)
		return merge(ctx, object, map[string]any{"spec": map[string]any{"password": map[string]any{"length": 32 + b.edits%16}}})
	}
}

// guest creates one object of every kind, uses what they publish, and deletes all of them.
func (b *workload) guest(ctx context.Context) error {
	b.count(&b.guests)
	p, name := b.place, "guest-"+strconv.Itoa(b.guests)
	cluster := fixture.ClusterAuthority(name, func(a *v1alpha1.ClusterCertificateAuthority) { a.Spec.AuthoritySpec = p.managed(name) })
	version := []int{15, 18}[b.guests%2]
	authority, policy, server := p.authority(name), p.policy(name, time.Hour), p.server(name, version)
	calls := p.clientIdentity(name, v1alpha1.AuthorityKindCluster, name)
	serves := p.serverIdentity(name+"-server", v1alpha1.AuthorityKindNamespaced, name)
	credential := p.credential("guest"+strconv.Itoa(b.guests), name, name)
	fixture.SetLogin(credential, databaseName, credential.Spec.Username, guests)
	// Objects are created before what they refer to: rekey must report what it waits for, and continue once it exists.
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
	login, err := p.secretData(ctx, credential.Spec.SecretName)
	if err != nil {
		return err
	}
	if err := b.createOwnTable(ctx, login, p.userOf(credential.Name)); err != nil {
		return err
	}
	if err := b.checkHandshake(ctx, calls, serves); err != nil {
		return err
	}
	if err := b.retainKeyPair(ctx, authority); err != nil {
		return err
	}
	return b.deleteGuest(ctx, env.databases[version], credential, objects)
}

// secretData returns the current data of a Secret.
func (p place) secretData(ctx context.Context, name v1alpha1.ObjectName) (map[string][]byte, error) {
	secret := &corev1.Secret{}
	err := env.kube.Get(ctx, p.key(string(name)), secret)
	return secret.Data, err
}

// checkHandshake performs a TLS handshake between the guest's client and server.
func (b *workload) checkHandshake(ctx context.Context, calls *v1alpha1.ClientIdentity, serves *v1alpha1.ServerIdentity) error {
	client, err := b.place.secretData(ctx, calls.Spec.SecretName)
	if err != nil {
		return err
	}
	server, err := b.place.secretData(ctx, serves.Spec.SecretName)
	if err != nil {
		return err
	}
	if err := inMemoryHandshake(ctx, client, server, string(serves.Spec.DNSNames[0])); err != nil {
		return fmt.Errorf("handshake of a guest: %w", err)
	}
	return nil
}

// createOwnTable logs in and creates a table that the login itself owns, which makes the login harder to drop.
func (b *workload) createOwnTable(ctx context.Context, secret map[string][]byte, name string) error {
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

// retainKeyPair changes the deletion policy of an authority's key pair, and waits until the Secret and the record follow.
func (b *workload) retainKeyPair(ctx context.Context, authority *v1alpha1.CertificateAuthority) error {
	if err := merge(ctx, authority, map[string]any{"spec": map[string]any{"deletionPolicy": v1alpha1.DeletionRetain}}); err != nil {
		return err
	}
	return await(ctx, patience, func(ctx context.Context) error {
		for _, object := range b.keyPairObjects(authority) {
			if err := env.kube.Get(ctx, client.ObjectKeyFromObject(object), object); err != nil {
				return errors.Join(err, ready(ctx, authority))
			}
			if len(object.GetOwnerReferences()) > 0 {
				return errors.Join(fmt.Errorf("%T %s is still deleted together with its authority", object, object.GetName()), ready(ctx, authority))
			}
		}
		return nil
	})
}

// keyPairObjects returns the Secret and the record of an authority.
func (b *workload) keyPairObjects(authority *v1alpha1.CertificateAuthority) []client.Object {
	return []client.Object{
		&corev1.Secret{ObjectMeta: b.place.meta(string(authority.Spec.SecretName()))},
		&corev1.ConfigMap{ObjectMeta: b.place.meta(recordOf(authority.Name))},
	}
}

// deleteGuest deletes all objects of a guest, and waits until nothing is left: no Secret, no ledger, no login.
func (b *workload) deleteGuest(ctx context.Context, at *database, credential *v1alpha1.DatabaseCredential, objects []client.Object) error {
	p := b.place
	left := []client.Object{
		&corev1.Secret{ObjectMeta: p.meta(ledgerOf(credential.Name))}, &corev1.Secret{ObjectMeta: p.meta(string(credential.Spec.SecretName))},
	}
	// The server must exist until the logins are dropped.
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
			return fmt.Errorf("login %s (%q) still exists after its credential was deleted", role.name, role.mark)
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
			for _, kept := range b.keyPairObjects(authority) { // retained by its policy
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

// recordOf returns the name of the ConfigMap that holds an authority's certificate.
func recordOf(authority string) string {
	return secretstore.LedgerName(string(v1alpha1.AuthorityKindNamespaced), authority)
}
