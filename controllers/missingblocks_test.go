// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"strings"
	"testing"
	"time"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/fault"
)

// An object that was stored before its kind had blocks has none: rekey names what is missing, and uses nothing of the object.
func TestAnObjectWithoutItsBlockIsStalled(t *testing.T) {
	login, server, managed, provided := aCredential(), aServer(), anAuthority(), anAuthority()
	login.Namespace = "web"
	if err := engineFits(login, server); err != nil {
		t.Errorf("a credential with the block of its server's engine: %v", err)
	}
	other := aServer()
	other.Spec.Engine = "Another"
	bare := login.DeepCopy()
	bare.Spec.PostgreSQL, server.Spec.PostgreSQL = nil, nil
	managed.Spec.Managed.SecretName, provided.Spec.Managed, provided.Spec.KeyPair = "", nil, &v1alpha1.KeyPairAuthority{}
	_, _, ofServer := (&shared{}).resolveServer(t.Context(), server)
	tests := map[string]struct {
		err    error
		reason fault.Reason
		words  string
	}{
		"a credential without a block":           {engineFits(bare, server), fault.EngineMismatch, "add spec.postgresql"},
		"a credential for another engine":        {engineFits(login, other), fault.EngineMismatch, "create a new object with spec.another"},
		"a server without the engine's block":    {ofServer, fault.EngineMismatch, "add spec.postgresql"},
		"a managed authority without secretName": {namesSecret(partsOfAuthority(v1alpha1.AuthorityKindNamespaced, managed)), fault.AuthorityInvalid, "spec.managed has no secretName"},
		"a key pair without secretName":          {namesSecret(partsOfAuthority(v1alpha1.AuthorityKindNamespaced, provided)), fault.AuthorityInvalid, "spec.keyPair has no secretName"},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			if fault.Classify(tc.err) != fault.ClassPermanent || fault.ReasonOf(tc.err, "") != tc.reason || !strings.Contains(tc.err.Error(), tc.words) {
				t.Errorf("got %v (%s, %s), want a permanent %s with %q", tc.err, fault.Classify(tc.err), fault.ReasonOf(tc.err, ""), tc.reason, tc.words)
			}
		})
	}
}

// A build without the credential's engine knows neither its traits nor its logins.
func TestADeletionInABuildWithoutTheEngineReportsTheLogins(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	object.Spec.DeletionPolicy = v1alpha1.DeletionDelete
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	delete(w.engines, v1alpha1.EnginePostgreSQL)
	w.restart()
	w.remove(object)
	w.events()
	for range 20 {
		w.step(time.Minute)
		w.reconcile(object)
	}
	reported := strings.Join(w.events(), "\n")
	if !strings.Contains(reported, v1alpha1.ReasonCleanupIncomplete) || !strings.Contains(reported, "the logins of its username "+object.Spec.Username) {
		t.Errorf("the logins that stay are not reported:\n%s", reported)
	}
	if len(w.logins()) == 0 {
		t.Error("no login is left: the test shows nothing")
	}
}
