// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package databasetest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/credential/sourcetest"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/databasetest"
	"github.com/rekey/rekey/internal/fault"
)

func TestTheFakeSatisfiesTheContract(t *testing.T) {
	fake := databasetest.NewFake()
	count := 0
	databasetest.Run(t, databasetest.Harness{
		Engine: fake,
		Powers: sourcetest.Powers{Remover: true, MarkerReader: true, Heir: true, SessionCounter: true, Preflighter: true},
		Fresh: func(*testing.T) databasetest.Place {
			count++
			return databasetest.Place{
				Server: database.Server{Host: "db", Port: 1234, Settings: []byte(`{"allowedOwners": ["owner"]}`)},
				Target: database.Target{Username: fmt.Sprintf("app%d", count), Strategy: database.AlternatingUsers, Settings: []byte(`{"owner": "owner"}`),
					Create: true, PasswordLength: 32, PasswordAlphabet: "WithSymbols"},
			}
		},
		Forbid: func(at databasetest.Place) (databasetest.Place, fault.Reason) {
			at.Server.Settings = []byte(`{"allowedOwners": ["nobody_at_all"]}`)
			return at, fault.OwnerForbidden
		},
		Damaged: map[string]func(credential.Material) credential.Material{
			"no verifier": func(m credential.Material) credential.Material { return m.With(credential.KeyVerifier, nil) },
		},
		Patience: time.Second,
		Foreign: func(_ *testing.T, _ databasetest.Place, login, password string) {
			fake.Put(login, databasetest.FakeLogin{Password: password, CanLogin: true})
		},
		Accepts: func(_ *testing.T, _ databasetest.Place, login, password string) bool {
			return fake.Accepts(login, password)
		},
		Connect: func(_ *testing.T, _ databasetest.Place, login, _, client string) func() {
			found, _ := fake.Login(login)
			found.Sessions = append(found.Sessions, client)
			fake.Put(login, found)
			return func() {
				found, _ := fake.Login(login)
				i := slices.Index(found.Sessions, client)
				found.Sessions = slices.Delete(found.Sessions, i, i+1)
				fake.Put(login, found)
			}
		},
		Outage: func(*testing.T) func() {
			fake.SetDown(true)
			return func() { fake.SetDown(false) }
		},
		Open: func(*testing.T) func() {
			fake.SetTrust(true)
			return func() { fake.SetTrust(false) }
		},
		Cripple: map[string]func(*testing.T, databasetest.Place, string){
			"closed": func(_ *testing.T, _ databasetest.Place, login string) {
				found, _ := fake.Login(login)
				found.CanLogin = false
				fake.Put(login, found)
			},
		},
		Block: func(*testing.T, databasetest.Place) func() {
			fake.SetBlocked(true)
			return func() { fake.SetBlocked(false) }
		},
		Log: func() string { return "" },
	})
}

func TestTheFakeDoesWhatTheTestSets(t *testing.T) {
	fake := databasetest.NewFake()
	session, err := fake.Open(t.Context(), database.Server{}, database.Target{Username: "app", Strategy: database.AlternatingUsers})
	if err != nil {
		t.Fatal(err)
	}
	wanted := errors.New("as configured")
	fake.SetCheck(database.Report{Version: "99"}, wanted)
	if report, err := fake.Check(t.Context(), database.Server{}); !errors.Is(err, wanted) || report.Version != "99" {
		t.Errorf("Check: got %v, %v", report, err)
	}
	fake.SetPreflight(wanted)
	if err := session.(credential.Preflighter).Preflight(t.Context(), credential.Ref{}); !errors.Is(err, wanted) {
		t.Errorf("Preflight: got %v", err)
	}
	fake.Put("app_a", databasetest.FakeLogin{Password: "x", CanLogin: true})
	fake.Drop("app_a")
	if _, ok := fake.Login("app_a"); ok {
		t.Error("a dropped login still exists")
	}
	fake.SetHang(true)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	answer, err := session.Verify(ctx, credential.Ref{Slot: "a"}, nil)
	if answer != credential.Unknown || !errors.Is(err, context.DeadlineExceeded) || fault.ReasonOf(err, "") != fault.ServerUnreachable {
		t.Errorf("Verify while hanging: got %s, %v", answer, err)
	}
	if fake.Calls("Verify") != 1 || fake.Calls("Check") != 1 || fake.Calls("Stage") != 0 {
		t.Error("the calls are not counted")
	}
}

func TestFaultyWithoutAnArmedCallOnlyCounts(t *testing.T) {
	faulty := databasetest.NewFaulty(databasetest.NewFake())
	if _, err := faulty.Check(t.Context(), database.Server{}); err != nil {
		t.Error(err)
	}
	session, err := faulty.Open(t.Context(), database.Server{}, database.Target{Username: "app", Strategy: database.AlternatingUsers})
	if err != nil {
		t.Fatal(err)
	}
	r := credential.Ref{Slot: "a", Seq: 1}
	for name, call := range map[string]func() error{
		"Retire": func() error { return session.Retire(t.Context(), credential.Change{Ref: r}) },
		"Remove": func() error { return session.(credential.Remover).Remove(t.Context(), credential.Change{Ref: r}) },
		"Marker": func() error { _, err := session.(credential.MarkerReader).Marker(t.Context(), r); return err },
		"TakeOver": func() error {
			return session.(credential.Heir).TakeOver(t.Context(), credential.Change{Ref: r}, "c/web/orders")
		},
		"Count": func() error { _, err := session.(credential.SessionCounter).Sessions(t.Context(), r); return err },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		faulty.Arm(1, sourcetest.FailBefore)
		if err := call(); fault.ReasonOf(err, "") != fault.ServerUnreachable {
			t.Errorf("%s, armed: %v", name, err)
		}
	}
	if diff := cmp.Diff(11, len(faulty.Calls())); diff != "" {
		t.Error(diff)
	}
}

func TestFaultyConsultsItsHookForEveryCallAndStopsWaiting(t *testing.T) {
	fake := databasetest.NewFake()
	faulty := databasetest.NewFaulty(fake)
	faulty.Patience = time.Millisecond
	for mode, reached := range map[sourcetest.Mode]int{sourcetest.Hang: 0, sourcetest.LoseAnswer: 1} {
		var asked []string
		faulty.Choose = func(call string) sourcetest.Mode { asked = append(asked, call); return mode }
		done := ""
		faulty.Done = func(call string) { done += call }
		before := fake.Calls("Check")
		_, err := faulty.Check(t.Context(), database.Server{})
		if !errors.Is(err, context.DeadlineExceeded) || fault.Classify(err) != fault.ClassTransient {
			t.Errorf("mode %d: %v", mode, err)
		}
		if got := fake.Calls("Check") - before; got != reached || len(asked) != 1 || asked[0] != "Check" || done != "Check" {
			t.Errorf("mode %d: the server was reached %d times, not %d; asked about %q, done %q", mode, got, reached, asked, done)
		}
	}
}
