// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"strings"
	"testing"

	"github.com/rekey/rekey/test/world"
)

// TestTheMatrixFindsDefects breaks the product on purpose: a write seems to succeed and has no effect, as if it had been
// forgotten or came too late. The matrix has to find each.
func TestTheMatrixFindsDefects(t *testing.T) {
	w := newWorkers(t, versions()[0])[0]
	credentials, identities := credentialLives(), identityLives(clientIdentity)
	for name, tc := range map[string]struct {
		of life
		// request is swallowed from its nth time on in a process, and the step of that name is spoiled so.
		request string
		from    int
		step    string
		way     order
		// wanted is the invariant that says so.
		wanted string
	}{
		"a new login is never written down":     {named(t, credentials, "first issue"), "create Secret ledger", 1, "call Stage", order{fault: after, fate: dies}, "I8"},
		"the Secret is never written":           {named(t, credentials, "rotate-now"), "update Secret published", 1, "update status DatabaseCredential", order{fault: before, fate: dies}, "I8"},
		"the commit is forgotten":               {named(t, credentials, "rotate-now"), "update Secret ledger", 4, "update Secret published", order{fault: after, fate: dies}, "I8"},
		"a renewed certificate is never stored": {named(t, identities, "rotate-now"), "update Secret published", 1, "update status ClientIdentity", order{fault: before, fate: dies}, "I8"},
	} {
		t.Run(name, func(t *testing.T) {
			without, err := undisturbed(w, tc.of)
			if err != nil {
				t.Fatal(err)
			}
			tc.way.step = stepNamed(t, without, tc.step)
			if _, err := spoiled(w, tc.of, without, tc.way); err != nil {
				t.Fatalf("without the defect: %v", err)
			}
			r := w.newRun(tc.of)
			seen := 0
			r.swallow = func(request world.Request) bool {
				if !r.on || r.label(request) != tc.request {
					return false
				}
				seen++
				return seen >= tc.from
			}
			_, err = r.play(tc.way)
			if err == nil || !strings.HasPrefix(err.Error(), tc.wanted+":") {
				t.Errorf("the defect was not found, or not as %s: %v", tc.wanted, err)
			}
			if seen < tc.from {
				t.Errorf("%q happened %d times: the defect was never there", tc.request, seen)
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
	t.Fatalf("there is no life %q", name)
	return life{}
}

// stepNamed gives the number of the last step of that name.
func stepNamed(t *testing.T, without plain, name string) int {
	t.Helper()
	step := 0
	for i, e := range without.effects {
		if e.name == name {
			step = i + 1
		}
	}
	if step == 0 {
		t.Fatalf("there is no step %q", name)
	}
	return step
}
