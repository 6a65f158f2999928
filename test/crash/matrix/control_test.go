// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"fmt"
	"strings"
	"testing"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/world"
)

// defect is an injected defect that happens when a request is made. It reports whether the request is swallowed.
type defect func(*run) bool

// forgotten is a write that seems to succeed but has no effect, as if it was forgotten or came too late.
func forgotten(*run) bool { return true }

// statement runs a statement that only rekey should run.
func statement(format string) defect {
	return func(r *run) bool {
		_, err := r.conn.Exec(r.Ctx, fmt.Sprintf(format, r.base))
		r.must(err)
		return false
	}
}

// secondPassword records a second password in the ledger, for a version that the server already holds.
func secondPassword(r *run) bool {
	secret, ledger := r.secret(secretstore.LedgerName("DatabaseCredential", r.id)), r.ledger()
	if ledger == nil || ledger.Pending == nil || !r.roles()[r.base+"_a"] {
		return false
	}
	second := "second-" + ledger.Pending.Material.String(credential.KeyPassword)[7:]
	ledger.Pending.Material = ledger.Pending.Material.With(credential.KeyPassword, []byte(second))
	data, err := secretstore.EncodeLedger(*ledger)
	r.must(err)
	secret.Data = data
	r.must(r.Client.Update(r.Ctx, secret))
	return false
}

// leaked writes a secret value to public output.
func leaked(r *run) bool {
	r.say("a log", "the password is "+string(r.secret(r.id + "-secret").Data[credential.KeyPassword]))
	return false
}

// TestTheMatrixFindsDefects breaks the product on purpose. The matrix must find each defect, by the invariant that it breaks.
func TestTheMatrixFindsDefects(t *testing.T) {
	w := newWorkers(t, versions()[0])[0]
	credentials, identities := credentialLives(), identityLives(clientIdentity)
	for name, tc := range map[string]struct {
		of life
		// request causes the defect from its nth occurrence on; the step of that name fails.
		request string
		from    int
		defect  defect
		step    string
		way     order
		// wanted is the invariant that must report it.
		wanted string
	}{
		"a new login is never recorded":         {named(t, credentials, "first issue"), "create Secret ledger", 1, forgotten, "call Stage", order{fault: after, fate: dies}, "I8"},
		"the Secret is never written":           {named(t, credentials, "rotate-now"), "update Secret published", 1, forgotten, "update status DatabaseCredential", order{fault: before, fate: dies}, "T4"},
		"the commit is forgotten":               {named(t, credentials, "rotate-now"), "update Secret ledger", 4, forgotten, "update Secret published", order{fault: after, fate: dies}, "I8"},
		"a renewed certificate is never stored": {named(t, identities, "rotate-now"), "update Secret published", 1, forgotten, "update status ClientIdentity", order{fault: before, fate: dies}, "T4"},
		"the published login is disabled":       {named(t, credentials, "rotate-now"), "update Secret published", 1, statement("ALTER ROLE %s_b NOLOGIN"), "update status DatabaseCredential", order{fault: before, fate: dies}, "I1"},
		"a login that no ledger records":        {named(t, credentials, "first issue"), "create Secret published", 1, statement("CREATE ROLE %s_b LOGIN"), "update status DatabaseCredential", order{fault: before, fate: dies}, "I2"},
		"a login with another name":             {named(t, credentials, "first issue"), "create Secret published", 1, statement("CREATE ROLE %s_c"), "update status DatabaseCredential", order{fault: before, fate: dies}, "I2"},
		"one version has two passwords":         {named(t, credentials, "first issue"), "get Secret ledger", 1, secondPassword, "call Stage", order{fault: after, fate: dies}, "I3"},
		"a password is leaked":                  {named(t, credentials, "rotate-now"), "update Secret published", 1, leaked, "update status DatabaseCredential", order{fault: before, fate: dies}, "I6"},
		"a deleted object never disappears":     {named(t, credentials, "deletion, Delete"), "update DatabaseCredential", 1, forgotten, "update DatabaseCredential", order{fault: before, fate: dies}, "I9"},
	} {
		t.Run(name, func(t *testing.T) {
			without, err := playWithoutFaults(w, tc.of)
			if err != nil {
				t.Fatal(err)
			}
			tc.way.step = stepNamed(t, without, tc.step)
			if _, err := playWithFaults(w, tc.of, without, tc.way); err != nil {
				t.Fatalf("without the defect: %v", err)
			}
			r := w.newRun(tc.of)
			seen := 0
			r.swallow = func(request world.Request) bool {
				if !r.on || r.label(request) != tc.request {
					return false
				}
				seen++
				return seen >= tc.from && tc.defect(r)
			}
			_, err = r.play(tc.way)
			if err == nil || !strings.HasPrefix(err.Error(), tc.wanted+":") {
				t.Errorf("the defect was not found, or not by %s: %v", tc.wanted, err)
			}
			if seen < tc.from {
				t.Errorf("%q happened %d times: the defect never occurred", tc.request, seen)
			}
		})
	}
}

func named(t *testing.T, all []life, name string) life {
	t.Helper()
	for _, of := range all {
		if of.name == name {
			return of
		}
	}
	t.Fatalf("life %q not found", name)
	return life{}
}

// stepNamed returns the number of the last step with that name.
func stepNamed(t *testing.T, without plain, name string) int {
	t.Helper()
	step := 0
	for i, e := range without.effects {
		if e.name == name {
			step = i + 1
		}
	}
	if step == 0 {
		t.Fatalf("step %q not found", name)
	}
	return step
}
