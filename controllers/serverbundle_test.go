// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/lifecycle"
)

// T4: a changed bundle of CA certificates reaches the application's Secret with the next check of the server.
func TestAChangedBundleReachesTheSecretWithTheNextCheckOfTheServer(t *testing.T) {
	w := newWorld(t)
	object, server := aCredential(), aServer()
	server.Spec.TLS = v1alpha1.ServerTLS{Mode: v1alpha1.TLSModeVerifyFull, CARef: &v1alpha1.CAReference{Kind: v1alpha1.CASourceConfigMap, Name: "db-ca", Key: "ca.crt"}}
	bundle := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "db-ca"}, Data: map[string]string{"ca.crt": string(keyPairSecret(t, nil).Data["tls.crt"])}}
	ready(w, aPolicy(), anAdminSecret(), bundle, server, object)
	before := server.Status.CASHA256
	renewed := string(keyPairSecret(t, nil).Data["tls.crt"])
	w.edit(bundle, func() { bundle.Data["ca.crt"] = renewed })
	w.step(lifecycle.RecheckHealthy)
	w.reconcile(server)
	if before == "" || server.Status.CASHA256 == before {
		t.Fatalf("the status of the server is %q before and %q after: nothing is woken", before, server.Status.CASHA256)
	}
	w.settle(object, 5)
	if got := string(w.secret("orders-db").Data["certificates"]); got != renewed {
		t.Error("the Secret does not hold the new bundle")
	}
}

// The CA certificates of a database server are read alike from a ConfigMap and from a Secret, up to the size of the bundles of
// clouds and distributions; an error names its cause, and never denies what the object holds.
func TestServerBundlesAreReadAlikeFromSecretAndConfigMap(t *testing.T) {
	root := providePair(t, "Root", nil, nil)
	many := unrelatedRoots(t, 400)
	text := []byte("# the bundle of the region\n")
	der := root.certificate.Raw
	for name, tc := range map[string]struct {
		value []byte
		want  string // Empty: it is read.
		count int
	}{
		"the root":                  {root.pem(), "", 1},
		"110 regional roots":        {slices.Concat(root.pem(), many[:len(many)*109/400]), "", 0},
		"400 and the root":          {slices.Concat(many, root.pem()), "", 401},
		"text around, a BOM before": {slices.Concat([]byte("\xef\xbb\xbf"), text, root.pem(), text), "", 1},
		"more than 500":             {bytes.Repeat([]byte("-----BEGIN "), 501), "at most 500 certificates are read", 0},
		"longer than 256 KiB":       {append(bytes.Repeat(text, 11000), root.pem()...), "at most 262144 are allowed", 0},
		"empty":                     {[]byte{}, "empty", 0},
		"DER":                       {der, "a certificate in DER: convert it with", 0},
		"cut short":                 {root.pem()[:200], "its END line is missing", 0},
	} {
		for _, kind := range []v1alpha1.CASourceKind{v1alpha1.CASourceConfigMap, v1alpha1.CASourceSecret} {
			t.Run(fmt.Sprintf("%s in a %s", name, kind), func(t *testing.T) {
				if name == "110 regional roots" {
					tc.value = tc.value[:bytes.LastIndex(tc.value, []byte("-----BEGIN"))]
				}
				w := newWorld(t)
				meta := metav1.ObjectMeta{Name: "bundle", Labels: map[string]string{v1alpha1.LabelAllow: "true"}}
				switch {
				case kind == v1alpha1.CASourceSecret:
					w.create(&corev1.Secret{ObjectMeta: meta, Data: map[string][]byte{"ca.crt": tc.value}})
				case name == "DER":
					w.create(&corev1.ConfigMap{ObjectMeta: meta, BinaryData: map[string][]byte{"ca.crt": tc.value}})
				default:
					w.create(&corev1.ConfigMap{ObjectMeta: meta, Data: map[string]string{"ca.crt": string(tc.value)}})
				}
				bundle, err := w.shared.readBundle(w.ctx, w.namespace, &v1alpha1.CAReference{Kind: kind, Name: "bundle", Key: "ca.crt"})
				if tc.want != "" {
					if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), "bundle") || !strings.Contains(err.Error(), "ca.crt") {
						t.Errorf("the error is %v, want %q", err, tc.want)
					}
					return
				}
				pool := x509.NewCertPool()
				if err != nil || !pool.AppendCertsFromPEM(bundle) {
					t.Fatalf("it is not read: %v", err)
				}
				if _, err := root.certificate.Verify(x509.VerifyOptions{Roots: pool}); err != nil {
					t.Error("the root is not in it")
				}
				if n := bytes.Count(bundle, []byte("BEGIN")); tc.count > 0 && n != tc.count || n < 1 {
					t.Errorf("%d certificates are read", n)
				}
			})
		}
	}
}
