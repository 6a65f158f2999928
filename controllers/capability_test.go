// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/size"
)

// incapacity is a change after which a published login cannot do its work. %[1]s is the login, %[2]s its owner, %[3]s its
// database.
type incapacity struct {
	do []string
	// undo is what an administrator does; empty if rekey repairs it.
	undo []string
	// The reason of Ready and words of its message meanwhile.
	reason string
	words  []string
}

var incapacities = map[string]incapacity{
	"NOLOGIN":                 {do: []string{"ALTER ROLE %[1]s NOLOGIN"}, reason: "CredentialRejected", words: []string{"NOLOGIN"}},
	"a limit of 0":            {do: []string{"ALTER ROLE %[1]s CONNECTION LIMIT 0"}, reason: "CredentialRejected", words: []string{"connection limit is 0"}},
	"a lost membership":       {do: []string{"REVOKE %[2]s FROM %[1]s%[4]s"}, reason: "CredentialRejected", words: []string{`GRANT "%[2]s" TO "%[1]s"`}},
	"another role":            {do: []string{"ALTER ROLE %[1]s IN DATABASE %[3]s SET role = 'none'"}, reason: "CredentialRejected", words: []string{"RESET role"}},
	"a dropped database":      {do: []string{"DROP DATABASE %[3]s"}, undo: []string{"CREATE DATABASE %[3]s OWNER %[2]s"}, reason: "DatabaseNotFound", words: []string{`CREATE DATABASE "%[3]s"`}},
	"a closed database":       {do: []string{"ALTER DATABASE %[3]s ALLOW_CONNECTIONS false"}, undo: []string{"ALTER DATABASE %[3]s ALLOW_CONNECTIONS true"}, reason: "LoginForbidden", words: []string{"ALLOW_CONNECTIONS"}},
	"CONNECT that is revoked": {do: []string{"REVOKE CONNECT ON DATABASE %[3]s FROM PUBLIC, %[2]s"}, undo: []string{"GRANT CONNECT ON DATABASE %[3]s TO %[2]s"}, reason: "LoginForbidden", words: []string{`GRANT CONNECT ON DATABASE "%[3]s" TO "%[2]s"`}},
}

// onVersion is an incapacity on a version of PostgreSQL.
type onVersion struct {
	version int
	name    string
}

// incapable returns every incapacity, in make test each on one of the versions.
func incapable(t *testing.T) []onVersion {
	t.Helper()
	var all []onVersion
	for _, version := range versions {
		for _, name := range slices.Sorted(maps.Keys(incapacities)) {
			all = append(all, onVersion{version, name})
		}
	}
	return size.Sample(size.RandomFrom(t, 1), all, len(incapacities), func(of onVersion) string { return of.name })
}

// A login that cannot do its work is not Ready, whatever the cause; the cause is reported once, with the fix. rekey restores
// what it granted.
func TestALoginThatCannotDoItsWorkIsNotReady(t *testing.T) {
	for _, of := range incapable(t) {
		version, tc := of.version, incapacities[of.name]
		t.Run(fmt.Sprintf("%d/%s", version, of.name), func(t *testing.T) {
			w := newPGWorld(t, servers.Of(t, version))
			database, login := w.base+"_db", w.credential.Spec.Username+"_a"
			grantor := map[bool]string{true: " GRANTED BY " + w.admin}[version >= 16]
			names := strings.NewReplacer("%[1]s", login, "%[2]s", w.owner, "%[3]s", database, "%[4]s", grantor)
			run := func(statements []string) {
				for _, statement := range statements {
					w.sql(names.Replace(statement))
				}
			}
			run([]string{"CREATE DATABASE %[3]s OWNER %[2]s"})
			w.credential.Spec.PostgreSQL.Database = database
			ready(w.world, w.object, w.credential)
			w.wantCondition(w.credential, v1alpha1.ConditionVerified, "True/LoggedIn")
			published := w.secret("orders-db")

			run(tc.do)
			w.step(90 * time.Minute)
			w.reconcile(w.credential)
			w.wantCondition(w.credential, v1alpha1.ConditionReady, "False/"+tc.reason)
			w.wantCondition(w.credential, v1alpha1.ConditionVerified, "False/"+tc.reason)
			for _, word := range tc.words {
				if said := describeConditions(w.credential); !strings.Contains(said, names.Replace(word)) {
					t.Errorf("no condition contains %q: %s", names.Replace(word), said)
				}
			}
			if len(tc.undo) > 0 {
				for range 3 {
					w.step(20 * time.Minute)
					w.reconcile(w.credential)
					w.wantCondition(w.credential, v1alpha1.ConditionReady, "False/"+tc.reason)
				}
				if count := strings.Count(strings.Join(w.events(), "\n"), "Warning "+tc.reason); count != 1 {
					t.Errorf("reported %d times, want once", count)
				}
				run(tc.undo)
			}
			for range 5 {
				w.step(time.Minute)
				w.reconcile(w.credential)
			}
			if len(tc.undo) > 0 {
				w.step(time.Hour)
				w.settle(w.credential, 5)
			}
			w.wantCondition(w.credential, v1alpha1.ConditionReady, "True/Published")
			w.wantCondition(w.credential, v1alpha1.ConditionVerified, "True/LoggedIn")
			if !w.accepted(published) {
				t.Error("the published login does not work again")
			}
		})
	}
}

func TestVerifiedReportsTheNegativeControl(t *testing.T) {
	w := newWorld(t)
	server, object := aServer(), aCredential()
	server.Spec.NegativeControl = v1alpha1.NegativeControlAtFirst
	ready(w, aPolicy(), anAdminSecret(), server, object)
	said := describeConditions(object)
	if !strings.Contains(said, "negativeControl") || strings.Contains(said, "and a wrong password was refused") {
		t.Errorf("Verified does not say that wrong passwords are no longer tested: %s", said)
	}
}

// A lost ledger does not show whether a wrong password was ever refused: that is tested before the ledger is rebuilt.
func TestALostLedgerIsRebuiltOnlyIfAWrongPasswordIsRefused(t *testing.T) {
	for _, control := range []v1alpha1.NegativeControl{v1alpha1.NegativeControlAtFirst, v1alpha1.NegativeControlAlways} {
		t.Run(string(control), func(t *testing.T) {
			w := newWorld(t)
			server, object := aServer(), aCredential()
			server.Spec.NegativeControl = control
			ready(w, aPolicy(), anAdminSecret(), server, object)
			w.dropLedger(object)
			w.database.SetTrust(true)
			w.restart()
			w.settle(object, 5)
			w.wantCondition(object, v1alpha1.ConditionStalled, "True/"+v1alpha1.ReasonAuthenticationNotEnforced)
			if _, rebuilt := w.data()[secretstore.LedgerName(kindDatabaseCredential, object.Name)]; rebuilt {
				t.Error("the ledger was rebuilt from a login that proves nothing")
			}
			w.database.SetTrust(false)
			w.step(2 * time.Hour)
			w.settle(object, 5)
			w.wantCondition(object, v1alpha1.ConditionReady, "True/Published")
			if object.Status.Revision != 1 {
				t.Errorf("revision %d, want the published login%s", object.Status.Revision, describeConditions(object))
			}
		})
	}
}

// The pages document how often a server is checked.
func TestAServerIsCheckedAtTheDocumentedIntervals(t *testing.T) {
	spoken := map[time.Duration]string{30 * time.Second: "every 30 seconds", 5 * time.Minute: "every five minutes"}
	for _, path := range []string{"../docs/databaseserver.md", "../docs/runbooks/README.md"} {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, pace := range []time.Duration{lifecycle.RecheckBroken, lifecycle.RecheckHealthy} {
			if words, known := spoken[pace]; !known || !strings.Contains(strings.ReplaceAll(string(page), "\n", " "), words) {
				t.Errorf("%s does not say that it is every %s", path, pace)
			}
		}
	}
	for name, tc := range map[string]struct {
		err  error
		want time.Duration
	}{
		"healthy":            {nil, lifecycle.RecheckHealthy},
		"unreachable":        {fault.Transient(fault.ServerUnreachable, errors.New("there is no connection")), lifecycle.RecheckBroken},
		"no such database":   {fault.Blocked(fault.DatabaseNotFound, errors.New("it does not exist")), lifecycle.RecheckBroken},
		"a bad certificate":  {fault.Permanent(fault.ServerCertificateInvalid, errors.New("it has expired")), lifecycle.RecheckBroken},
		"a missing CREATE":   {fault.Permanent(fault.PrivilegeMissing, errors.New("some are missing")), lifecycle.RecheckBroken},
		"of another version": {fault.Permanent(fault.ServerUnsupported, errors.New("it is too old")), lifecycle.RecheckBroken},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			server := aServer()
			w.create(anAdminSecret(), server)
			w.database.SetCheck(database.Report{Version: "18.4"}, tc.err)
			reconciler := w.reconcilerOf(server)
			period := time.Duration(size.Number(1, 24)) * time.Hour
			for begun := w.clock.Now(); w.clock.Now().Sub(begun) < period; {
				result, err := reconciler.Reconcile(w.ctx, ctrl.Request{NamespacedName: client.ObjectKeyFromObject(server)})
				if err != nil {
					t.Fatal(err)
				}
				w.step(result.RequeueAfter)
			}
			if got, want := w.database.Calls("Check"), int(period/tc.want); got < want-1 || got > want+1 {
				t.Errorf("asked %d times in %s, want %d", got, period, want)
			}
		})
	}
}
