// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/databasetest"
	"github.com/rekey/rekey/internal/fault"
)

// R16: the sessions that still use the previous login are named, and no longer named once there are none.
func TestSessionsOfThePreviousLoginAreReported(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	connected := func(clients ...string) {
		login, ok := w.database.Login("orders_app_a")
		if !ok {
			t.Fatal("there is no previous login")
		}
		login.Sessions = clients
		w.database.Put("orders_app_a", login)
	}
	w.step(24*time.Hour + time.Minute)
	connected("report", "web", "web")
	w.settle(object, 5)
	w.wantCondition(object, v1alpha1.ConditionPreviousInUse, "True/SessionsOpen")
	for _, word := range []string{"3 sessions", "orders_app_a", "(report, web)"} {
		if !strings.Contains(describeConditions(object), word) {
			t.Errorf("the conditions do not contain %q:%s", word, describeConditions(object))
		}
	}
	if previous := object.Status.Previous; previous == nil || previous.Username != "orders_app_a" || previous.Sessions == nil || *previous.Sessions != 3 {
		t.Errorf("status.previous is %+v", previous)
	}

	// A server that does not answer this changes nothing.
	w.engines[v1alpha1.EnginePostgreSQL] = silent{w.database}
	w.step(time.Minute)
	w.reconcile(object)
	w.wantCondition(object, v1alpha1.ConditionPreviousInUse, "True/SessionsOpen")
	w.engines[v1alpha1.EnginePostgreSQL] = w.database

	connected()
	w.step(time.Minute)
	w.reconcile(object)
	w.wantCondition(object, v1alpha1.ConditionPreviousInUse, "")
	w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")

	// Sessions that are open when the login is closed are reported with the retirement.
	connected("report")
	w.events()
	w.step(2 * time.Hour)
	w.settle(object, 5)
	w.wantCondition(object, v1alpha1.ConditionPreviousInUse, "")
	if events := w.events(); !with(events, "Normal Retired", "orders_app_a", "continue until they close: 1 ", "report") {
		t.Errorf("Events: %q", events)
	}
}

// spoiled is the fake server with some failing calls.
type spoiled struct {
	*databasetest.Fake

	retire   error
	sessions error
}

// silent is a server that does not count its sessions.
type silent struct{ *databasetest.Fake }

// Open implements database.Engine.
func (s silent) Open(ctx context.Context, server database.Server, target database.Target) (database.Session, error) {
	return spoiled{Fake: s.Fake, sessions: errors.New("the sessions cannot be read")}.Open(ctx, server, target)
}

// Open implements database.Engine.
func (s spoiled) Open(ctx context.Context, server database.Server, target database.Target) (database.Session, error) {
	session, err := s.Fake.Open(ctx, server, target)
	return spoiledSession{Session: session, by: s}, err
}

// spoiledSession deliberately lacks the optional interfaces of a session that these tests do not need.
type spoiledSession struct {
	database.Session

	by spoiled
}

// Retire implements credential.Source.
func (s spoiledSession) Retire(ctx context.Context, change credential.Change) error {
	if s.by.retire != nil {
		return s.by.retire
	}
	return s.Session.Retire(ctx, change)
}

// Sessions implements credential.SessionCounter.
func (s spoiledSession) Sessions(ctx context.Context, ref credential.Ref) (credential.Sessions, error) {
	if s.by.sessions != nil {
		return credential.Sessions{}, s.by.sessions
	}
	return s.Session.(credential.SessionCounter).Sessions(ctx, ref)
}

// A server that keeps accepting the old login: that is reported, and the rotation is not called finished.
func TestALoginThatIsStillAcceptedIsReportedUntilItIsRefused(t *testing.T) {
	w := newWorld(t)
	object := aCredential()
	ready(w, aPolicy(), anAdminSecret(), aServer(), object)
	w.step(24*time.Hour + time.Minute)
	w.settle(object, 5)
	w.events()
	w.engines[v1alpha1.EnginePostgreSQL] = spoiled{Fake: w.database, retire: fault.Transient(fault.StillAccepted,
		errors.New(`retiring login "orders_app_a" on orders-db.data:5432: the server still accepts it`))}
	w.step(2 * time.Hour)
	for range 30 {
		w.reconcile(object)
		w.step(time.Minute)
	}
	w.wantCondition(object, v1alpha1.ConditionRotating, "True/StillAccepted")
	w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
	if object.Status.Previous == nil {
		t.Error("the previous login was forgotten while it is accepted")
	}
	if events := w.events(); len(events) != 1 || !with(events, "Warning StillAccepted", "orders_app_a") {
		t.Errorf("Events: %q, want one Warning StillAccepted", events)
	}
	w.engines[v1alpha1.EnginePostgreSQL] = w.database
	w.step(time.Hour)
	w.settle(object, 5)
	w.wantCondition(object, v1alpha1.ConditionRotating, "")
	if events := w.events(); !with(events, "Normal Retired") {
		t.Errorf("Events: %q", events)
	}
}

// An admission webhook's text may quote the object: its reason and code are reported, its text is not.
func TestAnAnswerOfTheAPIServerIsReportedWithoutItsText(t *testing.T) {
	w := newWorld(t)
	authority := anAuthority()
	w.create(authority)
	quoted := ""
	w.fail = func(of write) error {
		if of.kind != "Secret" || of.verb != "create" {
			return nil
		}
		quoted = "-----BEGIN PRIVATE KEY----- MC4CAQAwBQYDK2Vw"
		return apierrors.NewForbidden(corev1.Resource("secrets"), of.name, errors.New("denied by a webhook: "+quoted))
	}
	for range 5 {
		w.reconcile(authority)
		w.step(time.Minute)
	}
	if quoted == "" {
		t.Fatal("no Secret was created")
	}
	w.wantCondition(authority, v1alpha1.ConditionReady, "False/APIServerFailed")
	said := describeConditions(authority) + strings.Join(w.events(), "\n")
	for _, word := range []string{"creating Secret " + w.namespace + "/internal-ca", "403 Forbidden"} {
		if !strings.Contains(said, word) {
			t.Errorf("no condition contains %q: %s", word, said)
		}
	}
	if strings.Contains(said, "PRIVATE KEY") || strings.Contains(said, "webhook") {
		t.Errorf("the webhook's text was reported: %s", said)
	}
	w.fail = nil
	w.step(time.Minute)
	w.reconcile(authority)
	w.wantCondition(authority, v1alpha1.ConditionReady, "True/Serving")
}
