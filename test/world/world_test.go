// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package world_test

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/world"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m)) }

func TestAHookSeesEveryRequestOfTheProcess(t *testing.T) {
	w := world.New(t, nil)
	p := w.Start("only", world.Options{})
	authority := fixture.Authority()
	w.Create(authority)
	var seen []string
	p.Hook(func(_ context.Context, r world.Request, do func() error) error {
		if r.Writes() {
			seen = append(seen, r.Verb+" "+r.Kind)
		}
		return do()
	})
	if settled, err := p.Settle(authority, 10); !settled {
		t.Fatal("the authority did not settle:", err)
	}
	if want := []string{"create Secret", "update status CertificateAuthority"}; !slices.Contains(seen, want[0]) || !slices.Contains(seen, want[1]) {
		t.Errorf("the hook saw %q, which lacks some of %q", seen, want)
	}
	closed := errors.New("closed")
	p.Hook(func(context.Context, world.Request, func() error) error { return closed })
	if _, err := p.Reconcile(authority); err == nil {
		t.Error("a reconcile completed although no request went through")
	}
}
