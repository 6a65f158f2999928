// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// certificates are the Secrets of identities, by the kind and the name of who publishes them.
var certificates = map[string]struct{ kind, name string }{
	"app-mtls": {"ClientIdentity", "app"},
	"web-mtls": {"ServerIdentity", "web"},
}

// lookAtCertificates is asked after every effect: what is published proves itself to whoever trusts its ca.crt.
func (w *watch) lookAtCertificates() {
	d := w.play
	for name, by := range certificates {
		secret := d.secretNow(name)
		if secret == nil || secret.Annotations[v1alpha1.AnnotationRevision] == "" {
			continue
		}
		now := d.Clock.Now()
		seen := fmt.Sprint(secret.UID, secret.ResourceVersion, now)
		if w.shook[name] == seen {
			continue
		}
		w.shook[name] = seen
		owner := d.history.now(by.kind, client.ObjectKey{Namespace: d.Namespace, Name: by.name})
		// Who is deleted renews nothing: what stays behind runs out in its time.
		renewed := owner != nil && owner.GetDeletionTimestamp() == nil
		err := provesItself(secret, now, renewed)
		if err != nil && w.ahead > 0 {
			// The clock of whoever issued it was wrong: it is valid by that one, and issued again once the clocks agree.
			err = provesItself(secret, now.Add(w.ahead), renewed)
		}
		if err != nil {
			d.blame("I1: the published certificate of %s %s (revision %s): %v", by.kind, by.name, secret.Annotations[v1alpha1.AnnotationRevision], err)
		}
	}
}

// provesItself is nil when certificate and key are a pair, the certificate comes from the authorities in ca.crt and, where
// that is asked for, is valid at the time.
func provesItself(secret *corev1.Secret, now time.Time, valid bool) error {
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return fmt.Errorf("certificate and key are no pair: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(secret.Data[corev1.ServiceAccountRootCAKey]) {
		return errors.New("ca.crt holds no certificate")
	}
	between := x509.NewCertPool()
	for _, der := range pair.Certificate[1:] {
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			return err
		}
		between.AddCert(cert)
	}
	if !valid {
		now = pair.Leaf.NotAfter
	}
	_, err = pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
	if err != nil {
		return fmt.Errorf("at %s: %w", now.UTC().Format(time.RFC3339), err)
	}
	return nil
}
