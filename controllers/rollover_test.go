// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/test/fixture"
)

// handshake performs one between a client and a server that read their Secrets now.
func (w *world) handshake(client, server *corev1.Secret) error {
	now := func() time.Time { return w.clock.Now() }
	pair := func(secret *corev1.Secret) tls.Certificate {
		out, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
		if err != nil {
			w.t.Fatal(err)
		}
		return out
	}
	pool := func(secret *corev1.Secret) *x509.CertPool {
		out := x509.NewCertPool()
		out.AppendCertsFromPEM(secret.Data["ca.crt"])
		return out
	}
	near, far := net.Pipe()
	defer near.Close()
	answer := make(chan error, 1)
	go func() {
		defer far.Close()
		answer <- tls.Server(far, &tls.Config{Certificates: []tls.Certificate{pair(server)}, ClientCAs: pool(server),
			ClientAuth: tls.RequireAndVerifyClientCert, Time: now, MinVersion: tls.VersionTLS12}).HandshakeContext(w.ctx)
	}()
	// With TLS 1.2 the client learns of a refusal within the handshake.
	err := tls.Client(near, &tls.Config{Certificates: []tls.Certificate{pair(client)}, RootCAs: pool(client),
		ServerName: "api.example.internal", Time: now, MaxVersion: tls.VersionTLS12, MinVersion: tls.VersionTLS12}).HandshakeContext(w.ctx)
	_ = near.Close()
	return errors.Join(err, <-answer)
}

// R22: an authority is replaced in three steps: the new root beside the old one, then the new key pair, then the old root is
// removed. At every moment, whichever Secret was written last and whichever is still mounted, every handshake succeeds.
func TestARolloverOfAnAuthorityNeverBreaksAHandshake(t *testing.T) {
	w := newWorld(t)
	old, oldKey, err := ca.NewSelfSigned(ca.Root{CommonName: "Old CA", KeyAlgorithm: issuer.ECDSAP256, Lifetime: 8760 * time.Hour}, w.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	next, nextKey, err := ca.NewSelfSigned(ca.Root{CommonName: "Next CA", KeyAlgorithm: issuer.ECDSAP256, Lifetime: 8760 * time.Hour}, w.clock.Now())
	if err != nil {
		t.Fatal(err)
	}
	secret := keyPairSecret(t, map[string]string{v1alpha1.LabelAllow: "true"})
	secret.Data = map[string][]byte{"tls.crt": old, "tls.key": oldKey.Reveal()}
	authority, clientSide, serverSide := anAuthority(), aClientIdentity(), aServerIdentity()
	fixture.SetKeyPair(&authority.Spec, "brought-ca")
	ready(w, secret, authority, clientSide, serverSide)

	mounted := map[string][]*corev1.Secret{"app-mtls": {w.secret("app-mtls")}, "api-mtls": {w.secret("api-mtls")}}
	shake := func(when string) {
		t.Helper()
		// A pod may still have the previous Secret.
		for name := range mounted {
			mounted[name] = append(mounted[name], w.secret(name))
			mounted[name] = mounted[name][max(0, len(mounted[name])-2):]
		}
		for _, from := range mounted["app-mtls"] {
			for _, to := range mounted["api-mtls"] {
				if err := w.handshake(from, to); err != nil {
					t.Errorf("%s, client of revision %s and server of revision %s: %v", when,
						from.Annotations[v1alpha1.AnnotationRevision], to.Annotations[v1alpha1.AnnotationRevision], err)
				}
			}
		}
	}
	// Reconcile both identities after a step, and check in between and afterwards.
	reconcileBoth := func(step string) {
		t.Helper()
		w.step(time.Minute) // Key pairs are read again after half a minute.
		w.reconcile(authority)
		w.reconcile(clientSide)
		shake(step + ", the client first")
		w.reconcile(serverSide)
		shake(step + ", both")
		shake(step + ", both have read it")
	}
	shake("before")
	key := string(w.secret("app-mtls").Data["tls.key"])

	w.edit(secret, func() { secret.Data["ca.crt"] = slices.Concat(old, next) })
	reconcileBoth("both roots are trusted")
	if string(w.secret("app-mtls").Data["tls.key"]) != key {
		t.Error("a new trust anchor led to a new key")
	}
	w.edit(secret, func() { secret.Data["tls.crt"], secret.Data["tls.key"] = next, nextKey.Reveal() })
	reconcileBoth("the new authority signs")
	if clientSide.Status.Revision != 2 || serverSide.Status.Revision != 2 {
		t.Errorf("revisions %d and %d after the exchange of the key pair, want 2", clientSide.Status.Revision, serverSide.Status.Revision)
	}
	w.edit(secret, func() { secret.Data["ca.crt"] = next })
	reconcileBoth("the old root is gone")
	if anchors := string(w.secret("app-mtls").Data["ca.crt"]); anchors != string(next) {
		t.Error("the old root is still trusted")
	}
}
