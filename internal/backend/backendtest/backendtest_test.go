// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package backendtest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/backend"
	"github.com/rekey/rekey/internal/backend/backendtest"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

func TestTheFakeKeepsTheContract(t *testing.T) {
	fake := backendtest.NewFake()
	fresh := 0
	backendtest.Run(t, backendtest.Harness{
		Backend: fake,
		Fresh: func(*testing.T) backend.Target {
			fresh++
			return backend.Target{Username: fmt.Sprintf("app%d", fresh), Owner: "owner", Create: true, Server: backend.Server{AllowedOwners: []string{"owner"}}}
		},
		Foreign: func(_ *testing.T, _ backend.Target, login, password string) {
			fake.Put(login, backendtest.FakeLogin{Password: password, CanLogin: true})
		},
		Accepts: func(_ *testing.T, _ backend.Target, login, password string) bool {
			return fake.Accepts(login, password)
		},
		Connect: func(_ *testing.T, _ backend.Target, login, _, client string) func() {
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
		Cripple: map[string]func(*testing.T, backend.Target, string){
			"closed": func(_ *testing.T, _ backend.Target, login string) {
				found, _ := fake.Login(login)
				found.CanLogin = false
				fake.Put(login, found)
			},
		},
		Block: func(*testing.T, backend.Target) func() {
			fake.SetBlocked(true)
			return func() { fake.SetBlocked(false) }
		},
		Log: func() string { return "" },
	})
}

func TestTheFakeDoesWhatItIsTold(t *testing.T) {
	fake := backendtest.NewFake()
	session, err := fake.Open(t.Context(), backend.Target{Username: "app"})
	if err != nil {
		t.Fatal(err)
	}
	wanted := errors.New("as told")
	fake.SetCheck(backend.Report{Version: "99"}, wanted)
	if report, err := fake.Check(t.Context(), backend.Server{}); !errors.Is(err, wanted) || report.Version != "99" {
		t.Errorf("Check: got %v, %v", report, err)
	}
	fake.SetPreflight(wanted)
	if err := session.(backend.Preflighter).Preflight(t.Context(), credential.Ref{}); !errors.Is(err, wanted) {
		t.Errorf("Preflight: got %v", err)
	}
	fake.Put("app_a", backendtest.FakeLogin{Password: "x", CanLogin: true})
	fake.Drop("app_a")
	if _, ok := fake.Login("app_a"); ok {
		t.Error("a dropped login is there")
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
	faulty := backendtest.NewFaulty(backendtest.NewFake())
	if _, err := faulty.Check(t.Context(), backend.Server{}); err != nil {
		t.Error(err)
	}
	session, err := faulty.Open(t.Context(), backend.Target{Username: "app"})
	if err != nil {
		t.Fatal(err)
	}
	r := credential.Ref{Slot: "a", Seq: 1}
	for name, call := range map[string]func() error{
		"Retire":   func() error { return session.Retire(t.Context(), r) },
		"Remove":   func() error { return session.(credential.Remover).Remove(t.Context(), r) },
		"Marker":   func() error { _, err := session.(credential.Marked).Marker(t.Context(), r); return err },
		"TakeOver": func() error { return session.(credential.Heir).TakeOver(t.Context(), r, "c/web/orders") },
		"Count":    func() error { _, err := session.(credential.Counter).Sessions(t.Context(), r); return err },
	} {
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		faulty.Arm(1, backendtest.FailBefore)
		if err := call(); fault.ReasonOf(err, "") != fault.ServerUnreachable {
			t.Errorf("%s, armed: %v", name, err)
		}
	}
	if diff := cmp.Diff(11, len(faulty.Calls())); diff != "" {
		t.Error(diff)
	}
}

func TestFaultyAsksWhatToDoWithEveryCallAndGivesUpWaiting(t *testing.T) {
	fake := backendtest.NewFake()
	faulty := backendtest.NewFaulty(fake)
	faulty.Patience = time.Millisecond
	for mode, reached := range map[backendtest.Mode]int{backendtest.Hang: 0, backendtest.LoseAnswer: 1} {
		var asked []string
		faulty.Choose = func(call string) backendtest.Mode { asked = append(asked, call); return mode }
		done := ""
		faulty.Done = func(call string) { done += call }
		before := fake.Calls("Check")
		_, err := faulty.Check(t.Context(), backend.Server{})
		if !errors.Is(err, context.DeadlineExceeded) || fault.Classify(err) != fault.ClassTransient {
			t.Errorf("mode %d: %v", mode, err)
		}
		if got := fake.Calls("Check") - before; got != reached || len(asked) != 1 || asked[0] != "Check" || done != "Check" {
			t.Errorf("mode %d: the server was reached %d times, not %d; asked about %q, done %q", mode, got, reached, asked, done)
		}
	}
}
