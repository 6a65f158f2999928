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

// certificates maps the Secrets of identities to the kind and name of their owners.
var certificates = map[string]struct{ kind, name string }{
	"app-mtls": {"ClientIdentity", "app"},
	"web-mtls": {"ServerIdentity", "web"},
}

// checkCertificates runs after every effect: each published certificate verifies for a client that trusts its ca.crt.
func (w *invariants) checkCertificates() {
	d := w.play
	for name, by := range certificates {
		secret := d.secretNow(name)
		if secret == nil || secret.Annotations[v1alpha1.AnnotationRevision] == "" {
			continue
		}
		now := d.Clock.Now()
		seen := fmt.Sprint(secret.UID, secret.ResourceVersion, now)
		if w.proven[name] == seen {
			continue
		}
		w.proven[name] = seen
		owner := d.history.now(by.kind, client.ObjectKey{Namespace: d.Namespace, Name: by.name})
		// A deleted object renews nothing: what it leaves behind expires in time.
		renewed := owner != nil && owner.GetDeletionTimestamp() == nil
		err := proveCertificate(secret, now, renewed)
		if err != nil && w.ahead > 0 {
			// The issuing process had a wrong clock: the certificate is valid by that clock, and is reissued once the clocks
			// agree.
			err = proveCertificate(secret, now.Add(w.ahead), renewed)
		}
		if err != nil {
			d.violation("I1: the published certificate of %s %s (revision %s): %v", by.kind, by.name, secret.Annotations[v1alpha1.AnnotationRevision], err)
		}
	}
}

// proveCertificate returns nil if certificate and key are a pair, the certificate chains to the authorities in ca.crt and, if
// valid is set, it is valid now.
func proveCertificate(secret *corev1.Secret, now time.Time, valid bool) error {
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return fmt.Errorf("certificate and key are not a pair: %w", err)
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
