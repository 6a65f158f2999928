// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package sourcetest

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// Powers are the optional interfaces of a source.
type Powers struct {
	Remover, MarkerReader, Heir, SessionCounter, Preflighter bool
}

// PowersOf returns the optional interfaces that a source has.
func PowersOf(source credential.Source) Powers {
	return Powers{has[credential.Remover](source), has[credential.MarkerReader](source), has[credential.Heir](source),
		has[credential.SessionCounter](source), has[credential.Preflighter](source)}
}

func has[T any](source credential.Source) bool {
	_, ok := credential.As[T](source)
	return ok
}

// Harness is a source under test, with a remote system behind it that the suite may abuse. Every function itself fails the test
// if it cannot do its work.
type Harness struct {
	// Traits and Powers are those that the source has to have, exactly.
	Traits credential.Traits
	Powers Powers
	// Secret is the key of the material that holds the secret; empty for the password.
	Secret string
	// Fresh returns a credential that can be served and has no version yet: a different one on each call.
	Fresh func(t *testing.T) Subject
	// Outage makes the remote system unreachable until end is called. Nil if the source has none.
	Outage func(t *testing.T) (end func())
	// Open makes the remote system accept every secret until end is called. Provable needs it.
	Open func(t *testing.T) (end func())
	// Patience is how long to wait for a lost answer; 0 means three seconds, enough for a real server to finish its work.
	Patience time.Duration
	// Log returns everything that the remote system has logged; nil if there is no log.
	Log func() string
}

// Subject is one credential at the remote system.
type Subject struct {
	// Source opens a source for the credential. Each call returns a new one, which shares no memory with the others.
	Source func(t *testing.T) credential.Source
	// Accepts reports whether a client of the remote system can use the material, without using the source. Provable and
	// Revocable need it.
	Accepts func(t *testing.T, material credential.Material) bool
	// Damaged holds, by name, ways to damage proposed material that Stage refuses with LedgerInvalid; there may be none.
	Damaged map[string]func(credential.Material) credential.Material
	// Cripple holds, by name, the ways in which an administrator makes what a version uses unusable without changing the secret.
	// Staging the version again repairs it. Provable needs one.
	Cripple map[string]func(t *testing.T, material credential.Material)
	// Block makes the target itself unusable until end is called; staging does not repair that. Provable needs it.
	Block func(t *testing.T) (end func())
	// Foreign creates what the slot's versions would use, as an administrator would by hand: a client can use the secret that is
	// returned, and there is no marker. MarkerReader needs it.
	Foreign func(t *testing.T, slot string) credential.Material
	// WithoutCreating opens a source that may not create anything; nil if the source has no such option.
	WithoutCreating func(t *testing.T) credential.Source
	// Connect connects a client that uses the material under the application name until disconnect is called. SessionCounter
	// needs it.
	Connect func(t *testing.T, material credential.Material, client string) (disconnect func())
	// Forbidden opens a source for a target that must not be served, and returns the reason. Preflighter needs it.
	Forbidden func(t *testing.T) (credential.Source, fault.Reason)
}

// Suite is one run of the contract. Suites for one kind of source add their own cases to it.
type Suite struct {
	Harness

	// a is the first slot, b the next one; they are the same if there is only one.
	a, b    string
	mu      sync.Mutex
	secrets []string // every secret that was generated
	texts   []string // the text of every error
}

const callTimeout = 30 * time.Second

// NewSuite returns a suite for a harness.
func NewSuite(harness Harness) *Suite {
	s := &Suite{Harness: harness}
	if s.Secret == "" {
		s.Secret = credential.KeyPassword
	}
	if slots := harness.Traits.Slots; len(slots) > 0 {
		s.a, s.b = slots[0], slots[1]
	}
	return s
}

// Run tests a source against its contract.
func Run(t *testing.T, harness Harness) {
	t.Helper()
	s := NewSuite(harness)
	s.Run(t)
	s.NoLeak(t)
}

// section is a part of the contract, and when it applies.
type section struct {
	applies bool
	cases   []promise
}

type promise struct {
	text  string
	check func(*Suite, *testing.T)
}

// Run runs the cases one after another, because some take the remote system down.
func (s *Suite) Run(t *testing.T) {
	t.Helper()
	traits, powers := s.Traits, s.Powers
	for _, section := range []section{
		{true, core},
		{!traits.Minted, proposing}, {traits.Minted, minting},
		{s.Outage != nil, remote},
		{traits.Provable, provable}, {!traits.Provable, unprovable},
		{traits.Durable || traits.Revocable, recorded},
		{traits.Revocable, revocable}, {!traits.Revocable, irrevocable},
		{len(traits.Slots) > 0, slots},
		{powers.MarkerReader, marking}, {powers.MarkerReader && len(traits.Slots) > 0, siblings}, {powers.MarkerReader && traits.Revocable, finality},
		{powers.Heir, heir},
		{powers.Remover, removing}, {powers.SessionCounter, counting}, {powers.Preflighter, preflighting},
	} {
		if !section.applies {
			continue
		}
		for _, one := range section.cases {
			t.Run(one.text, func(t *testing.T) { one.check(s, t) })
		}
	}
}

func (s *Suite) patience() time.Duration {
	if s.Patience > 0 {
		return s.Patience
	}
	return 3 * time.Second
}

// must returns a value of the harness, or fails the test if it is missing: a source with that trait or power needs it.
func must[T any](t *testing.T, hook T, missing bool, what string) T {
	t.Helper()
	if missing {
		t.Fatalf("the harness lacks %s, which the traits or the powers of the source need", what)
	}
	return hook
}

// power returns the source with an optional interface that the harness declares.
func power[T any](t *testing.T, on credential.Source) T {
	t.Helper()
	as, ok := credential.As[T](on)
	if !ok {
		t.Fatalf("%T lacks an optional interface that it should have", on)
	}
	return as
}

func ref(seq int64, slot string) credential.Ref {
	return credential.Ref{Cluster: "c0ffee", Namespace: "shop", Name: "orders", Seq: seq, Slot: slot}
}

func foreign(seq int64, slot string) credential.Ref {
	r := ref(seq, slot)
	r.Name = "another-object"
	return r
}

// version is a staged version.
type version struct {
	ref      credential.Ref
	material credential.Material
}

func (v version) change() credential.Change {
	return credential.Change{Ref: v.ref, Material: v.material}
}

// propose generates material and remembers its secret.
func (s *Suite) propose(t *testing.T, on credential.Source, r credential.Ref) credential.Material {
	t.Helper()
	proposed, err := on.Propose(r)
	if err != nil {
		t.Fatalf("proposing %s: %v", r, err)
	}
	s.Remember(proposed.String(s.Secret))
	return proposed
}

// Remember keeps a secret for the search at the end of the suite.
func (s *Suite) Remember(secret string) {
	if secret == "" {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets = append(s.secrets, secret)
}

// Heard keeps the text of an error for the search at the end of the suite.
func (s *Suite) Heard(err error) {
	if err != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.texts = append(s.texts, err.Error())
	}
}

// Context returns a context with the deadline of a call.
func (s *Suite) Context(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), callTimeout)
	t.Cleanup(cancel)
	return ctx
}

// stage proposes and stages a version, and fails the test if that fails.
func (s *Suite) stage(t *testing.T, on credential.Source, r credential.Ref) version {
	t.Helper()
	return s.stageAs(t, on, r, s.propose(t, on, r))
}

// stageAs stages the material, repeating the same change while the remote system needs time.
func (s *Suite) stageAs(t *testing.T, on credential.Source, r credential.Ref, proposed credential.Material) version {
	t.Helper()
	return s.stageChange(t, on, credential.Change{Ref: r, Material: proposed})
}

func (s *Suite) stageChange(t *testing.T, on credential.Source, change credential.Change) version {
	t.Helper()
	got, err := on.Stage(s.Context(t), change)
	for tries := 0; fault.Classify(err) == fault.ClassPending && tries < maxWaits; tries++ {
		s.Heard(err)
		s.pause(t, fault.RetryAfter(err))
		got, err = on.Stage(s.Context(t), change)
	}
	s.Heard(err)
	if err != nil {
		t.Fatalf("staging %s: %v", change.Ref, err)
	}
	s.Remember(got.Material.String(s.Secret))
	return version{change.Ref, got.Material}
}

// refused stages a version that must be refused.
func (s *Suite) refused(t *testing.T, on credential.Source, r credential.Ref, class fault.Class, reason fault.Reason) {
	t.Helper()
	_, err := on.Stage(s.Context(t), credential.Change{Ref: r, Material: s.propose(t, on, r)})
	s.WantFault(t, err, class, reason)
}

// maxWaits limits the attempts while a change is still in progress.
const maxWaits = 10

func (s *Suite) pause(t *testing.T, length time.Duration) {
	t.Helper()
	moment, cancel := context.WithTimeout(s.Context(t), length)
	defer cancel()
	<-moment.Done()
}

// wantAnswer verifies a version. It waits for a change that is still in progress, as the planner does. A source that is not
// Provable does not know what the remote system refuses: there, wantAccepts asks a client.
func (s *Suite) wantAnswer(t *testing.T, on credential.Source, v version, want credential.Answer) {
	t.Helper()
	if want == credential.Rejected && !s.Traits.Provable {
		return
	}
	got, err := on.Verify(s.Context(t), v.ref, v.material)
	s.Heard(err)
	for tries := 0; fault.Classify(err) == fault.ClassPending && tries < maxWaits; tries++ {
		s.pause(t, fault.RetryAfter(err))
		got, err = on.Verify(s.Context(t), v.ref, v.material)
		s.Heard(err)
	}
	if got != want {
		t.Errorf("verifying %s: %s, want %s (%v)", v.ref, got, want, err)
	}
	if want == credential.Accepted && err != nil {
		t.Errorf("accepted, with an error: %v", err)
	}
}

// WantFault fails the test unless the error has the class and the reason.
func (s *Suite) WantFault(t *testing.T, err error, class fault.Class, reason fault.Reason) {
	t.Helper()
	s.Heard(err)
	if fault.Classify(err) != class || fault.ReasonOf(err, "") != reason {
		t.Errorf("got %s %s (%v), want %s %s", fault.Classify(err), fault.ReasonOf(err, ""), err, class, reason)
	}
}

// wantMarker checks the marker of a slot, if the source can keep one. wantOpen checks whether it is open.
func (s *Suite) wantMarker(t *testing.T, on credential.Source, r credential.Ref, want credential.Marker) {
	t.Helper()
	if !s.Powers.MarkerReader {
		return
	}
	got, err := power[credential.MarkerReader](t, on).Marker(s.Context(t), r)
	s.Heard(err)
	if err != nil {
		t.Fatal(err)
	}
	got.Open = want.Open
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the marker of slot %q: %s", r.Slot, diff)
	}
}

// marked returns the marker of a version.
func marked(r credential.Ref) credential.Marker {
	return credential.Marker{Exists: true, Owner: r.Owner(), Seq: r.Seq}
}

func (s *Suite) wantOpen(t *testing.T, on credential.Source, r credential.Ref, want bool) {
	t.Helper()
	if !s.Powers.MarkerReader {
		return
	}
	got, err := power[credential.MarkerReader](t, on).Marker(s.Context(t), r)
	s.MustNot(t, err)
	if got.Open != want {
		t.Errorf("the login in slot %q is reported as open: %t, want %t", r.Slot, got.Open, want)
	}
}

// wantAccepts asks a client of the remote system.
func (s *Suite) wantAccepts(t *testing.T, subject Subject, material credential.Material, want bool) {
	t.Helper()
	accepts := must(t, subject.Accepts, subject.Accepts == nil, "Accepts")
	if got := accepts(t, material); got != want {
		t.Errorf("a client is accepted: %t, want %t", got, want)
	}
}

// MustNot fails the test if there is an error.
func (s *Suite) MustNot(t *testing.T, err error) {
	t.Helper()
	s.Heard(err)
	if err != nil {
		t.Error(err)
	}
}

// NoLeak searches the log and every error for every secret that was generated.
func (s *Suite) NoLeak(t *testing.T) {
	t.Helper()
	t.Run("no password is in the server's log or in any error", func(t *testing.T) {
		log := ""
		if s.Log != nil {
			log = s.Log()
		}
		errs := errors.New(strings.Join(s.texts, "\n")).Error()
		wantSecrets, wantTexts := 5, 0
		if s.Powers.MarkerReader {
			wantSecrets, wantTexts = 20, 20
		}
		if len(s.secrets) < wantSecrets || len(s.texts) < wantTexts {
			t.Fatalf("only %d passwords and %d errors were seen: the search proves nothing", len(s.secrets), len(s.texts))
		}
		for _, secret := range s.secrets {
			if strings.Contains(log, secret) {
				t.Error("a password is in the server's log")
			}
			if strings.Contains(errs, secret) {
				t.Error("a password is in an error")
			}
		}
	})
}
