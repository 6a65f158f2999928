// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// Fake is a remote system in memory, for sources with any combination of traits. It keeps no markers: databasetest.Fake is one
// that does. The zero value of every field but Traits is fine.
type Fake struct {
	// Traits of the sources.
	Traits credential.Traits
	// Requests is how many times Stage must be called with the same change before it answers; until then it is Pending.
	Requests int

	mu    sync.Mutex
	made  int
	asked map[string]int
	// accepts holds, by credential and slot, the secrets that are accepted, with the number of their version.
	accepts map[string]map[string]int64
	// closed, down, trust and blocked are set by tests.
	closed               map[string]bool
	down, trust, blocked bool
}

// SetDown sets whether every call fails as if the remote system were unreachable.
func (f *Fake) SetDown(down bool) { f.set(func() { f.down = down }) }

// SetTrust sets whether it accepts every secret.
func (f *Fake) SetTrust(trust bool) { f.set(func() { f.trust = trust }) }

// SetBlocked sets whether the target of every credential is unusable.
func (f *Fake) SetBlocked(blocked bool) { f.set(func() { f.blocked = blocked }) }

// Close makes a slot unusable until a version is staged there.
func (f *Fake) Close(name, slot string) {
	f.set(func() { f.entry(name, slot); f.closed[name+"/"+slot] = true })
}

func (f *Fake) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// Accepts reports whether a client could use the secret of a credential now, in any slot.
func (f *Fake) Accepts(name, secret string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, slot := range f.slots() {
		if f.accepted(name, slot, secret) {
			return true
		}
	}
	return false
}

// Secrets returns how many secrets of a credential are accepted.
func (f *Fake) Secrets(name string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	n := 0
	for _, slot := range f.slots() {
		n += len(f.entry(name, slot))
	}
	return n
}

// Backup returns a function that restores the present state.
func (f *Fake) Backup() (restore func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	accepts, closed, asked := cloned(f.accepts), maps.Clone(f.closed), maps.Clone(f.asked)
	return func() {
		f.set(func() { f.accepts, f.closed, f.asked = cloned(accepts), maps.Clone(closed), maps.Clone(asked) })
	}
}

func cloned(accepts map[string]map[string]int64) map[string]map[string]int64 {
	out := maps.Clone(accepts)
	for key, have := range out {
		out[key] = maps.Clone(have)
	}
	return out
}

func (f *Fake) slots() []string {
	if len(f.Traits.Slots) == 0 {
		return []string{""}
	}
	return f.Traits.Slots
}

// entry returns what a slot accepts. The caller holds the lock.
func (f *Fake) entry(name, slot string) map[string]int64 {
	if f.accepts == nil {
		f.accepts, f.closed, f.asked = map[string]map[string]int64{}, map[string]bool{}, map[string]int{}
	}
	key := name + "/" + slot
	if f.accepts[key] == nil {
		f.accepts[key] = map[string]int64{}
	}
	return f.accepts[key]
}

func (f *Fake) accepted(name, slot, secret string) bool {
	have := f.entry(name, slot)
	if f.closed[name+"/"+slot] {
		return false
	}
	_, ok := have[secret]
	return ok || f.trust && len(have) > 0
}

// Source returns a source for the credential of that name, with Remove and Preflight.
func (f *Fake) Source(name string) credential.Source { return &fakeSource{f, name} }

// Bare returns a source without any of the optional interfaces.
func (f *Fake) Bare(name string) credential.Source {
	return struct{ credential.Source }{f.Source(name)}
}

type fakeSource struct {
	fake *Fake
	name string
}

var (
	_ credential.Remover     = (*fakeSource)(nil)
	_ credential.Preflighter = (*fakeSource)(nil)
)

// Traits implements credential.Source.
func (s *fakeSource) Traits() credential.Traits { return s.fake.Traits }

// Propose implements credential.Source.
func (s *fakeSource) Propose(ref credential.Ref) (credential.Material, error) {
	out := credential.Material{credential.KeyUsername: credential.SensitiveString(s.name + ref.Slot)}
	if s.fake.Traits.Minted {
		return out, nil
	}
	return out.With(credential.KeyPassword, []byte(s.fake.secret())), nil
}

// secret returns a secret that it has not returned before.
func (f *Fake) secret() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.made++
	return fmt.Sprintf("secret-of-the-fake-%06d", f.made)
}

// call runs fn as one call to the remote system.
func (s *fakeSource) call(ctx context.Context, doing string, ref credential.Ref, fn func(accepts map[string]int64) error) error {
	if !slices.Contains(s.fake.slots(), ref.Slot) {
		return fault.Permanent(fault.LedgerInvalid, fmt.Errorf("%s %s: there is no such slot", doing, ref))
	}
	if err := ctx.Err(); err != nil {
		return fault.Transient(fault.ServerUnreachable, fmt.Errorf("%s: no answer in time: %w", doing, err))
	}
	s.fake.mu.Lock()
	defer s.fake.mu.Unlock()
	if s.fake.down {
		return fault.Transient(fault.ServerUnreachable, fmt.Errorf("%s: there is no connection", doing))
	}
	return fn(s.fake.entry(s.name, ref.Slot))
}

// Stage implements credential.Source.
func (s *fakeSource) Stage(ctx context.Context, change credential.Change) (credential.Staged, error) {
	material, traits := change.Material, s.fake.Traits
	if material.String(credential.KeyUsername) != s.name+change.Ref.Slot || !traits.Minted && material[credential.KeyPassword].IsEmpty() {
		if slices.Contains(s.fake.slots(), change.Ref.Slot) {
			return credential.Staged{}, fault.Permanent(fault.LedgerInvalid, errors.New("staging: the material is not whole, or for another credential"))
		}
	}
	if traits.Minted {
		material = material.With(credential.KeyPassword, []byte(s.fake.secret()))
	}
	if err := change.Confirm(ctx); err != nil {
		return credential.Staged{}, err
	}
	err := s.call(ctx, "staging", change.Ref, func(accepts map[string]int64) error {
		request := fmt.Sprintf("%s %d %s", s.name, change.Ref.Seq, change.Material.String(credential.KeyPassword))
		if s.fake.asked[request]++; s.fake.asked[request] <= s.fake.Requests {
			return fault.Pending(1, errors.New("staging: the request is not decided yet"))
		}
		if traits.Minted {
			maps.DeleteFunc(accepts, func(_ string, seq int64) bool { return seq == change.Ref.Seq })
		}
		if len(traits.Slots) > 0 {
			clear(accepts) // a slot accepts one secret
		}
		accepts[material.String(credential.KeyPassword)] = change.Ref.Seq
		delete(s.fake.closed, s.name+"/"+change.Ref.Slot)
		return nil
	})
	if err != nil {
		return credential.Staged{}, err
	}
	return credential.Staged{Material: material.Clone()}, nil
}

// Verify implements credential.Source. Without the trait Provable it checks only the form.
func (s *fakeSource) Verify(ctx context.Context, ref credential.Ref, material credential.Material) (credential.Answer, error) {
	if !s.fake.Traits.Provable {
		if material[credential.KeyPassword].IsEmpty() {
			return credential.Rejected, nil
		}
		return credential.Accepted, nil
	}
	answer := credential.Unknown
	err := s.call(ctx, "verifying", ref, func(map[string]int64) error {
		switch {
		case !s.fake.accepted(s.name, ref.Slot, material.String(credential.KeyPassword)):
			answer = credential.Rejected
		case s.fake.trust:
			return fault.Permanent(fault.AuthenticationNotEnforced, errors.New("verifying: a wrong secret was accepted too"))
		case s.fake.blocked:
			answer = credential.Rejected
			return fault.Blocked(fault.DatabaseNotFound, errors.New("verifying: the target does not exist"))
		default:
			answer = credential.Accepted
		}
		return nil
	})
	return answer, err
}

// Retire implements credential.Source. It refuses the secret of the version, and no other one in the slot. If the fake mints, it
// refuses every secret that it made for the version.
func (s *fakeSource) Retire(ctx context.Context, change credential.Change) error {
	if !s.fake.Traits.Revocable {
		return nil
	}
	if err := change.Confirm(ctx); err != nil {
		return err
	}
	return s.call(ctx, "retiring", change.Ref, func(accepts map[string]int64) error {
		if s.fake.Traits.Minted {
			maps.DeleteFunc(accepts, func(_ string, seq int64) bool { return seq == change.Ref.Seq })
			return nil
		}
		delete(accepts, change.Material.String(credential.KeyPassword))
		return nil
	})
}

// Remove implements credential.Remover.
func (s *fakeSource) Remove(ctx context.Context, change credential.Change) error {
	if err := change.Confirm(ctx); err != nil {
		return err
	}
	return s.call(ctx, "removing", change.Ref, func(accepts map[string]int64) error {
		clear(accepts)
		return nil
	})
}

// Preflight implements credential.Preflighter.
func (s *fakeSource) Preflight(ctx context.Context, ref credential.Ref) error {
	return s.call(ctx, "checking", ref, func(map[string]int64) error {
		if s.name == "" {
			return fault.Permanent(fault.UsernameForbidden, errors.New("checking: a credential has a name"))
		}
		return nil
	})
}
