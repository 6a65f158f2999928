// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
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
	readLedger := func() { s.call(); s.ledger = s.world.ledger }
	if s.ledgerFirst {
		readLedger()
	}
	s.secret = s.cachedSecret()
	if !s.ledgerFirst {
		readLedger()
	}
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

// cachedSecret returns the user's Secret from the process's cache. What that does not have is read live.
func (w *world) cachedSecret() object {
	w.call()
	if w.cached != nil && w.cached.version != 0 {
		return *w.cached
	}
	return w.secret
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
	refused  bool      // the server that uses the certificate refuses it; one that nothing proves has a defect
	denied   bool      // it will never be issued
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
			now.denied, s.denyNext = s.denyNext > 0, max(s.denyNext-1, 0)
		}
		if now.asked > patience && now.notAfter.IsZero() && !now.denied {
			now.notAfter = s.now.Add(10 * time.Hour)
		}
		s.orders[id], answer = now, now
		switch {
		case now.denied && now.asked > patience:
			return fault.Permanent(fault.IssuanceFailed, errors.New("the request was denied"))
		case now.notAfter.IsZero():
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
	if answer == credential.Rejected && !s.traits().Provable {
		return answer, fault.Permanent(fault.CertificateInvalid, errors.New("the certificate has a defect"))
	}
	return answer, nil
}

func (s *lateIssuance) Retire(context.Context, credential.Change) error {
	return errors.New("nothing can make this world refuse a certificate")
}
