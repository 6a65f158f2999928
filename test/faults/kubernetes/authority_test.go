// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/fixture"
)

// keyPairEdit is a manual edit of a managed authority's key pair.
type keyPairEdit struct {
	do func(s *scene, kept *corev1.Secret)
	// reason that the authority reports; empty if rekey repairs it on its own.
	reason string
	// repair does what the message asks for.
	repair func(s *scene, kept *corev1.Secret)
}

func (s *scene) edit(name string, change func(*corev1.Secret)) {
	s.t.Helper()
	secret := s.secret(name)
	change(secret)
	if err := s.Client.Update(s.Ctx, secret); err != nil {
		s.t.Fatal(err)
	}
}

func putBack(s *scene, kept *corev1.Secret) {
	s.t.Helper()
	if now := s.find(kept.Name); now != nil {
		s.Delete(now)
	}
	back := kept.DeepCopy()
	back.ResourceVersion, back.UID = "", ""
	s.Create(back)
}

func recordOf(s *scene) *corev1.ConfigMap {
	return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: secretstore.LedgerName("CertificateAuthority", "internal")}}
}

func anotherPair(s *scene) (crt, key []byte) {
	s.t.Helper()
	crt, sensitive, err := ca.NewSelfSigned(ca.Root{CommonName: "Test CA", KeyAlgorithm: issuer.ECDSAP256, Lifetime: 8760 * time.Hour}, s.Clock.Now())
	if err != nil {
		s.t.Fatal(err)
	}
	return crt, sensitive.Reveal()
}

var keyPairEdits = map[string]keyPairEdit{
	"the key pair is deleted": {
		do:     func(s *scene, kept *corev1.Secret) { s.Delete(s.secret(kept.Name)) },
		reason: "AuthorityLost", repair: putBack,
	},
	"the key is emptied": {
		do: func(s *scene, kept *corev1.Secret) {
			s.edit(kept.Name, func(c *corev1.Secret) { c.Data["tls.key"] = nil })
		},
		reason: "AuthorityInvalid", repair: putBack,
	},
	"the key pair is replaced by another authority's": {
		do: func(s *scene, kept *corev1.Secret) {
			s.edit(kept.Name, func(c *corev1.Secret) { c.Data["tls.crt"], c.Data["tls.key"] = anotherPair(s) })
		},
		reason: "AuthorityLost", repair: putBack,
	},
	"only the key is replaced": {
		do: func(s *scene, kept *corev1.Secret) {
			s.edit(kept.Name, func(c *corev1.Secret) { _, c.Data["tls.key"] = anotherPair(s) })
		},
		reason: "AuthorityInvalid", repair: putBack,
	},
	"the Secret loses its annotations": {
		do:     func(s *scene, kept *corev1.Secret) { s.edit(kept.Name, func(c *corev1.Secret) { c.Annotations = nil }) },
		reason: "SecretConflict", repair: putBack,
	},
	"the Secret loses its labels": {
		do: func(s *scene, kept *corev1.Secret) { s.edit(kept.Name, func(c *corev1.Secret) { c.Labels = nil }) },
	},
	"the record is deleted": {
		do: func(s *scene, _ *corev1.Secret) { s.Delete(recordOf(s)) },
	},
}

// R22, R15: whatever a user does to an authority's key pair, rekey never silently creates a new authority, never replaces a
// certificate because of it, and never signs with a key that is not the authority's. It continues once the key pair is
// restored.
func TestAnAuthorityWithADamagedKeyPairIsNeverReplacedSilently(t *testing.T) {
	for name, tc := range keyPairEdits {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			authority, identity := anAuthority(), fixture.ClientIdentity("app")
			s.ready(authority, identity)
			kept, serial, sha := s.secret("internal-ca"), identity.Status.SerialNumber, authority.Status.SHA256
			tc.do(s, kept)
			s.settle(authority)
			s.live(authority, 10*time.Minute)
			s.live(identity, 10*time.Minute)
			if tc.reason != "" {
				s.wantCondition(authority, v1alpha1.ConditionReady, "False/"+tc.reason)
				if events := s.Events(); !with(events, "Warning "+tc.reason) {
					t.Errorf("Events: %q", events)
				}
				late := fixture.ClientIdentity("late")
				s.Create(late)
				s.live(late, 10*time.Minute)
				if isReady(late) || s.find("late-mtls") != nil {
					t.Errorf("a certificate was issued meanwhile:%s", describe(late))
				}
				if !isReady(identity) {
					t.Errorf("the valid certificate is not Ready:%s", describe(identity))
				}
				tc.repair(s, kept)
				s.live(authority, 10*time.Minute)
				s.live(late, 10*time.Minute)
				if !healthy(late) {
					t.Errorf("the waiting object has not recovered:%s", describe(late))
				}
			}
			s.live(identity, 10*time.Minute)
			if !healthy(authority) || !healthy(identity) || identity.Status.SerialNumber != serial || authority.Status.SHA256 != sha {
				t.Errorf("not healthy, or replaced:%s%s", describe(authority), describe(identity))
			}
			record := recordOf(s)
			if err := s.Client.Get(s.Ctx, client.ObjectKeyFromObject(record), record); err != nil || record.Data["tls.crt"] != string(kept.Data["tls.crt"]) {
				t.Errorf("the record does not match the authority: %v", err)
			}
		})
	}
}
