// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/secretstore"
)

// The kinds of source between a login and a certificate that is signed at once.

// candidated is a store whose truth is the user's Secret and that keeps a pending version in a ledger, like
// secretstore.Published with Candidates: two objects, two compare-and-swaps.
type candidated struct {
	*world
	secret, ledger object // as last read or written
	memory         secretstore.Ledger
}

func (s *candidated) Load(context.Context) (secretstore.Snapshot, error) {
	s.call()
	s.secret = s.world.secret
	s.call()
	s.ledger = s.world.ledger
	kept := s.ledger.ledger.Clone()
	s.memory = s.secret.ledger.Clone()
	if kept.Pending != nil && s.memory.Current != nil && kept.Pending.Seq <= s.memory.Current.Seq {
		_ = s.drop("settle")
		return s.snapshot(), nil
	}
	s.memory.Pending, s.memory.LastSeq = kept.Pending, max(s.memory.LastSeq, kept.LastSeq)
	if s.memory.Current == nil {
		s.memory.Rotate = kept.Rotate
	}
	return s.snapshot(), nil
}

func (s *candidated) Save(_ context.Context, l secretstore.Ledger) (secretstore.Snapshot, error) {
	unchanged := l.Current == nil || (s.memory.Current != nil && s.memory.Current.Seq == l.Current.Seq && s.memory.Rotate == l.Rotate)
	switch {
	case !unchanged:
		if err := s.write(l); err != nil {
			return secretstore.Snapshot{}, err
		}
		if l.Pending == nil {
			_ = s.drop("settle")
		}
	case l.Pending == nil:
		if err := s.drop("save Dropped"); err != nil {
			return secretstore.Snapshot{}, err
		}
	default:
		next, expected := object{ledger: secretstore.Ledger{Pending: l.Pending, LastSeq: l.LastSeq, Rotate: l.Rotate}.Clone()}, s.ledger.version
		var written object
		if err := s.effect("save "+string(l.Pending.Stage), "", func() error {
			return s.compareAndSwap(&s.world.ledger, expected, next, &written)
		}); err != nil {
			return secretstore.Snapshot{}, err
		}
		s.ledger = written
	}
	s.memory = l.Clone()
	return s.snapshot(), nil
}

// compareAndSwap is a compare-and-swap.
func (w *world) compareAndSwap(place *object, expected int, next object, written *object) error {
	if place.version != expected {
		return conflict()
	}
	w.lastVersion++
	next.version = w.lastVersion
	*place, *written = next, next
	return nil
}

func (s *candidated) write(l secretstore.Ledger) error {
	if s.secret.foreign {
		return fault.Permanent(fault.SecretConflict, errors.New("the Secret belongs to another owner"))
	}
	next := object{shows: l.Current.Material, seq: l.Current.Seq, ledger: l.Clone()}
	next.ledger.Pending = nil
	expected := s.secret.version
	var written object
	if err := s.effect("save Current", "", func() error { return s.compareAndSwap(&s.world.secret, expected, next, &written) }); err != nil {
		return err
	}
	s.secret = written
	return nil
}

// drop deletes the ledger of the candidate, unless another process wrote it.
func (s *candidated) drop(kind string) error {
	if s.ledger.version == 0 {
		return nil
	}
	expected := s.ledger.version
	if err := s.effect(kind, "", func() error {
		if s.world.ledger.version != expected {
			return conflict()
		}
		s.world.ledger = object{}
		return nil
	}); err != nil {
		return err
	}
	s.ledger = object{}
	return nil
}

func (s *candidated) Publish(context.Context) (secretstore.Snapshot, error) {
	return s.snapshot(), errors.New("nothing of a certificate's Secret can differ in this world but the certificate")
}

func (s *candidated) Withdraw(context.Context) error {
	if err := s.effect("delete the Secret", "", func() error {
		if s.spec.delete && !s.world.secret.foreign {
			s.world.secret = object{}
		}
		return nil
	}); err != nil {
		return err
	}
	return s.effect("delete the ledger", "", func() error { s.world.ledger = object{}; return nil })
}

func (s *candidated) snapshot() secretstore.Snapshot {
	return secretstore.Snapshot{Ledger: s.memory.Clone(), Target: target(s.secret, s.memory.Current), Conflict: "it belongs to another owner"}
}

// order is what an issuer knows of one request.
type order struct {
	asked    int
	notAfter time.Time // zero until it is issued
	refused  bool      // the server that uses the certificate refuses it
}

// patience is how many times an issuer answers Pending.
const patience = 2

// lateIssuance is an issuer that answers a request only the third time that it gets it, and the server that uses the certificate.
type lateIssuance struct{ *world }

func (s *lateIssuance) Traits() credential.Traits { return s.traits() }

func (s *lateIssuance) Propose(ref credential.Ref) (credential.Material, error) {
	return s.propose(ref)
}

func (s *lateIssuance) Preflight(context.Context, credential.Ref) error { return s.preflight() }

func (s *lateIssuance) Stage(_ context.Context, change credential.Change) (credential.Staged, error) {
	if err := (&server{s.world}).reach(); err != nil {
		return credential.Staged{}, err
	}
	request := change.Material.String(credential.KeyPassword)
	id := fmt.Sprintf("%d/%s", change.Ref.Seq, request)
	var answer order
	err := s.effect("stage", "issuer", func() error {
		now := s.orders[id]
		if now.asked++; now.asked == 1 {
			now.refused, s.refuseNext = s.refuseNext > 0, max(s.refuseNext-1, 0)
		}
		if now.asked > patience && now.notAfter.IsZero() {
			now.notAfter = s.now.Add(10 * time.Hour)
		}
		s.orders[id], answer = now, now
		if now.notAfter.IsZero() {
			return fault.Pending(30*time.Second, errors.New("the request waits for approval"))
		}
		return nil
	})
	if err != nil {
		return credential.Staged{}, err
	}
	return credential.Staged{Material: change.Material.With(credential.KeyCertificate, []byte(id)), NotAfter: answer.notAfter}, nil
}

func (s *lateIssuance) Verify(_ context.Context, _ credential.Ref, m credential.Material) (credential.Answer, error) {
	if s.traits().Provable {
		if err := (&server{s.world}).reach(); err != nil {
			return credential.Unknown, err
		}
		if s.now.Before(s.endpointUpAt) {
			s.call()
			return credential.Unknown, fault.Transient(fault.ServerUnreachable, errDown)
		}
	}
	answer := credential.Rejected
	err := s.effect("verify", "endpoint?", func() error {
		if s.accepts(m) {
			answer = credential.Accepted
			s.watch.proven[m.String(credential.KeyPassword)] = true
		}
		return nil
	})
	if err != nil {
		return credential.Unknown, err
	}
	return answer, nil
}

func (s *lateIssuance) Retire(context.Context, credential.Change) error {
	return errors.New("nothing can make this world refuse a certificate")
}

// key is one key at a provider. It carries the number of its version; several keys can carry the same number.
type key struct {
	seq    int64
	secret string
}

// provider generates keys, and shows the secret of a key once.
type provider struct {
	*world
	store *ledgered
}

func (s *provider) Traits() credential.Traits { return s.traits() }

// Propose implements credential.Source. The secret does not exist yet.
func (s *provider) Propose(ref credential.Ref) (credential.Material, error) {
	return credential.Material{credential.KeyUsername: credential.SensitiveString(fmt.Sprintf("orders-%d", ref.Seq))}, nil
}

func (s *provider) Preflight(context.Context, credential.Ref) error { return s.preflight() }

// Stage first revokes what an earlier Stage of the same version left, then generates a key.
func (s *provider) Stage(_ context.Context, change credential.Change) (credential.Staged, error) {
	if err := (&server{s.world}).reach(); err != nil {
		return credential.Staged{}, err
	}
	seq := change.Ref.Seq
	if err := s.effect("revoke leftovers", "provider", func() error {
		if err := s.confirm(); err != nil {
			return err
		}
		s.revoke(seq)
		return nil
	}); err != nil {
		return credential.Staged{}, err
	}
	secret := ""
	err := s.effect("stage", "provider", func() error {
		if err := s.confirm(); err != nil {
			return err
		}
		s.passwords++
		made := fmt.Sprintf("password-%d", s.passwords)
		s.keys = append(s.keys, key{seq: seq, secret: made})
		secret = made
		return nil
	})
	if err != nil {
		return credential.Staged{}, err
	}
	return credential.Staged{Material: change.Material.With(credential.KeyPassword, []byte(secret))}, nil
}

// confirm is what Change.Confirm does, under a lock of the provider. A call that the provider still holds checks nothing.
func (s *provider) confirm() error {
	if !s.landing && s.store.ledger.version != s.ledger.version {
		return lifecycle.Conflict(conflict())
	}
	return nil
}

func (w *world) revoke(seq int64) {
	w.keys = slices.DeleteFunc(slices.Clone(w.keys), func(k key) bool { return k.seq == seq })
}

func (s *provider) Verify(_ context.Context, _ credential.Ref, m credential.Material) (credential.Answer, error) {
	if err := (&server{s.world}).reach(); err != nil {
		return credential.Unknown, err
	}
	answer := credential.Rejected
	err := s.effect("verify", "provider?", func() error {
		if s.accepts(m) {
			answer = credential.Accepted
			s.watch.proven[m.String(credential.KeyPassword)] = true
		}
		return nil
	}, func() { answer = credential.Accepted })
	if err != nil {
		return credential.Unknown, err
	}
	return answer, nil
}

func (s *provider) Retire(_ context.Context, change credential.Change) error {
	return s.end("retire", func(k key) bool { return k.seq == change.Ref.Seq })
}

// Remove implements credential.Remover.
func (s *provider) Remove(context.Context, credential.Change) error {
	return s.end("remove", func(key) bool { return true })
}

func (s *provider) end(kind string, which func(key) bool) error {
	if err := (&server{s.world}).reach(); err != nil {
		return err
	}
	return s.effect(kind, "provider", func() error {
		if s.underWay("provider") {
			return fault.Transient(fault.LockTimeout, errors.New("a change is still under way"))
		}
		s.keys = slices.DeleteFunc(slices.Clone(s.keys), which)
		return nil
	})
}

// acceptsKey reports whether the provider accepts this key now.
func (w *world) acceptsKey(m credential.Material) bool {
	return slices.ContainsFunc(w.keys, func(k key) bool {
		return k.secret == m.String(credential.KeyPassword) && k.secret != "" && !w.refuses[k.seq]
	})
}

// lookForKeys is I2 of a provider: each key carries the number of a version that the ledger knows.
func (k *watch) lookForKeys(w *world) {
	l := w.ledger.ledger
	for _, found := range w.keys {
		if !slices.ContainsFunc([]*secretstore.Record{l.Pending, l.Current, l.Previous}, func(r *secretstore.Record) bool {
			return r != nil && r.Seq == found.seq
		}) {
			k.breach(w, "I2: a key of version %d exists, which no ledger knows", found.seq)
		}
	}
}

// refuseCurrent makes the remote system refuse what is published from now on.
func refuseCurrent(w *world) {
	w.watch.restored = true
	current := w.ledger.ledger.Current
	if w.certificates() {
		current = w.secret.ledger.Current
	}
	if current == nil {
		return
	}
	w.keys = slices.DeleteFunc(slices.Clone(w.keys), func(k key) bool { return k.secret == current.Material.String(credential.KeyPassword) })
	if id := current.Material.String(credential.KeyCertificate); id != "" {
		now := w.orders[id]
		now.refused = true
		w.orders[id] = now
	}
}

const refusedFromNowOn = "what is published is refused from now on"

// instantsOf returns the instants of life that a kind can have: a credential without a ledger cannot be handed over.
func instantsOf(k kind) map[string]instant {
	all := map[string]instant{refusedFromNowOn: {do: refuseCurrent, until: day}}
	for name, in := range instantsOfLife {
		if k == twoSlots || name != "it belongs to another owner, which hands it over" {
			all[name] = in
		}
	}
	if k == twoSlots || !traitsOf[k].Provable {
		delete(all, refusedFromNowOn) // nothing notices it, or a login is restored
	}
	return all
}

func TestEveryInstantOfLifeOfEveryKindSettles(t *testing.T) {
	t.Parallel()
	for k, called := range map[kind]string{late: "a late issuer", proven: "a proven certificate", minted: "a minted key"} {
		for name, in := range instantsOf(k) {
			t.Run(called+", "+name, func(t *testing.T) {
				t.Parallel()
				s := scenario{kind: k, until: 9 * time.Hour, setup: func(w *world) { w.keepsPast = in.until > 0 }}
				effects := s.calm(t)
				s.until = max(s.until, in.until)
				count := s.sweep(t, func(yield func(trial) bool) {
					for i := 1; i <= effects; i++ {
						at := in.at(i)
						if !yield(trial{name: fmt.Sprintf("%s at effect %d", name, i), instants: at}) {
							return
						}
						for tr := range singles(max(1, i-1), i+4, deaths, at, fmt.Sprintf("%s at effect %d,", name, i)) {
							if !yield(tr) {
								return
							}
						}
					}
				})
				t.Logf("%d effects; %d instants and crashes settled", effects, count)
			})
		}
	}
}
