// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/secondengine"
)

// withSecondEngine returns the CRDs, extended by the strategy of the second engine: the API's enum holds only what the product can do.
func withSecondEngine() ([]*apiextensionsv1.CustomResourceDefinition, error) {
	options := envtest.CRDInstallOptions{Paths: []string{filepath.Join("..", "config", "crd", "bases")}, ErrorIfPathMissing: true}
	if err := envtest.ReadCRDFiles(&options); err != nil {
		return nil, err
	}
	for _, crd := range options.CRDs {
		if crd.Spec.Names.Kind != kindDatabaseCredential {
			continue
		}
		spec := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"]
		strategy := spec.Properties["strategy"]
		strategy.Enum = append(strategy.Enum, apiextensionsv1.JSON{Raw: []byte(`"` + secondengine.DualPassword + `"`)})
		spec.Properties["strategy"] = strategy
	}
	return options.CRDs, nil
}

// newPairWorld returns a world with the second engine, a server of it, and a credential of the strategy that only it has.
func newPairWorld(t *testing.T) (*world, *secondengine.Engine, *v1alpha1.DatabaseCredential) {
	t.Helper()
	w := newWorld(t)
	engine := secondengine.New()
	w.engines[v1alpha1.EnginePostgreSQL] = engine
	object := aCredential()
	object.Spec.Strategy = v1alpha1.Strategy(secondengine.DualPassword)
	w.create(aPolicy(), anAdminSecret())
	return w, engine, object
}

// login returns what the Secret shows.
func (w *world) login() (username, password string) {
	w.t.Helper()
	data := w.secret("orders-db").Data
	return string(data["username"]), string(data["password"])
}

func TestALoginOfTheSecondEngineLivesAWholeLife(t *testing.T) {
	w, engine, object := newPairWorld(t)
	server := aServer()
	w.create(server, object)
	w.reconcile(server)
	w.wantCondition(server, v1alpha1.ConditionReady, "True/Serving")
	if !strings.HasPrefix(describeConditions(server), "\n  Ready=True Serving: Pair 2.7 at ") {
		t.Errorf("the server is not called by the name of its product: %s", describeConditions(server))
	}
	w.settle(object, 3)
	w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
	w.wantCondition(object, v1alpha1.ConditionVerified, "True/LoggedIn")
	username, first := w.login()
	if secret := w.secret("orders-db"); username != object.Spec.Username || !engine.Accepts(username, first) ||
		secret.Type != secondengine.SecretType || !strings.HasPrefix(string(secret.Data["uri"]), "pair://") || secret.Data["sslmode"] != nil {
		t.Errorf("login %q is published in a Secret of type %s with the keys of another engine, or is refused", username, secret.Type)
	}
	w.written()
	w.events()
	w.restart()
	w.settle(object, 3)
	if writes := w.written(); len(writes) > 0 {
		t.Errorf("a restart with nothing due wrote %v", writes)
	}

	w.step(24*time.Hour + time.Minute)
	w.settle(object, 5)
	again, second := w.login()
	if again != username || second == first || !engine.Accepts(username, first) || !engine.Accepts(username, second) {
		t.Errorf("after the rotation: login %q, a new password: %t; the old one is accepted: %t, the new one: %t",
			again, second != first, engine.Accepts(username, first), engine.Accepts(username, second))
	}
	w.wantCondition(object, v1alpha1.ConditionRotating, "True/Overlapping")
	if events := w.events(); !with(events, "Normal Rotated", "Revision 2", "Login "+username+" stays accepted with its previous password until") {
		t.Errorf("Events of the rotation: %q", events)
	}
	w.restart()
	w.settle(object, 3) // proven again by the new process, which otherwise changes nothing
	if again, shown := w.login(); again != username || shown != second || engine.Passwords(username) != 2 {
		t.Error("a restart during the overlap changed something")
	}

	w.step(time.Hour + time.Minute)
	w.settle(object, 5)
	if engine.Accepts(username, first) || !engine.Accepts(username, second) || engine.Passwords(username) != 1 {
		t.Errorf("after the overlap the login accepts %d passwords; the old one: %t", engine.Passwords(username), engine.Accepts(username, first))
	}
	w.wantCondition(object, v1alpha1.ConditionRotating, "")
	if events := w.events(); !with(events, "Normal Retired", "Login "+username+" is now refused with its previous password.") {
		t.Errorf("Events of the retirement: %q", events)
	}
}

func TestDeletingDropsALoginOfTheSecondEngineAndRetainingKeepsIt(t *testing.T) {
	for policy, kept := range map[v1alpha1.DeletionPolicy]bool{v1alpha1.DeletionDelete: false, v1alpha1.DeletionRetain: true} {
		w, engine, object := newPairWorld(t)
		object.Spec.DeletionPolicy = policy
		w.create(aServer(), object)
		w.settle(object, 3)
		username, password := w.login()
		if err := w.client.Delete(w.ctx, object); err != nil {
			t.Fatal(err)
		}
		w.reconcile(object)
		if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(object), object); client.IgnoreNotFound(err) != nil || err == nil {
			t.Errorf("%s: the object still exists (error %v)", policy, err)
		}
		if engine.Exists(username) != kept || engine.Accepts(username, password) != kept {
			t.Errorf("%s: the login exists: %t, want %t", policy, engine.Exists(username), kept)
		}
	}
}

func TestALostLedgerOfTheSecondEngineIsRebuiltFromTheSecret(t *testing.T) {
	w, engine, object := newPairWorld(t)
	w.create(aServer(), object)
	w.settle(object, 3)
	username, password := w.login()
	ledger := w.secret(secretstore.LedgerName(kindDatabaseCredential, object.Name))
	if err := w.client.Delete(w.ctx, ledger); err != nil {
		t.Fatal(err)
	}
	w.restart()
	w.settle(object, 3)
	w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
	if again, shown := w.login(); again != username || shown != password || engine.Passwords(username) != 1 {
		t.Error("the lost ledger cost a rotation")
	}
	w.secret(secretstore.LedgerName(kindDatabaseCredential, object.Name))
}

func TestANameThatIsTooLongForTheSecondEngineIsAClearMessage(t *testing.T) {
	w, _, object := newPairWorld(t)
	object.Spec.Username = strings.Repeat("x", secondengine.MaxLogin+1)
	w.create(aServer(), object)
	w.settle(object, 3)
	w.wantCondition(object, v1alpha1.ConditionReady, "False/UsernameForbidden")
	w.wantCondition(object, v1alpha1.ConditionStalled, "True/UsernameForbidden")
	if text := describeConditions(object); !strings.Contains(text, "a login of Pair has at most 30 bytes") || !strings.Contains(text, "choose a shorter username in a new object") {
		t.Errorf("the message does not say what is wrong: %s", text)
	}
	if err := w.client.Delete(w.ctx, object); err != nil {
		t.Fatal(err)
	}
	w.reconcile(object)
	if err := w.client.Get(w.ctx, client.ObjectKeyFromObject(object), object); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the object still exists (error %v)", err)
	}
}

// A credential whose server object is deleted keeps its healthy ledger: slots and logins follow from the spec alone.
func TestACredentialWhoseServerIsDeletedKeepsItsLedger(t *testing.T) {
	w := newWorld(t)
	object, server := aCredential(), aServer()
	w.create(aPolicy(), anAdminSecret(), server, object)
	w.settle(object, 3)
	w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
	ledger, secret := w.secret(secretstore.LedgerName(kindDatabaseCredential, object.Name)), w.secret("orders-db")
	if err := w.client.Delete(w.ctx, server); err != nil {
		t.Fatal(err)
	}
	unchanged := func(when string) {
		t.Helper()
		if now := w.secret(secretstore.LedgerName(kindDatabaseCredential, object.Name)); now.ResourceVersion != ledger.ResourceVersion {
			t.Errorf("%s: the ledger was written", when)
		}
		if now := w.secret("orders-db"); now.ResourceVersion != secret.ResourceVersion {
			t.Errorf("%s: the user's Secret was written", when)
		}
	}
	for _, restarted := range []bool{false, true} {
		if restarted {
			w.restart()
		}
		for range 5 {
			w.reconcile(object)
			w.step(time.Minute)
		}
		w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
		if text := describeConditions(object); !strings.Contains(text, "ServerNotFound") || strings.Contains(text, "LedgerInvalid") {
			t.Errorf("restarted %t: %s", restarted, text)
		}
		unchanged("without the server")
	}
	w.create(aServer())
	w.settle(object, 3)
	w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
	w.wantCondition(object, v1alpha1.ConditionReconciling, "")
	unchanged("with the server back")
	w.step(24*time.Hour + time.Minute)
	w.settle(object, 5)
	if object.Status.Revision != 2 {
		t.Errorf("revision %d after a day with the server back, want 2", object.Status.Revision)
	}
}
