// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/secretstore"
)

// key is one key at a provider. It carries the number of its version; several keys can carry the same number.
type key struct {
	seq    int64
	secret string
}

// provider generates keys, and shows the secret of a key once.
type provider struct{ *world }

func (s *provider) Traits() credential.Traits { return s.traits() }

// Propose implements credential.Source. The secret does not exist yet.
func (s *provider) Propose(ref credential.Ref) (credential.Material, error) {
	return credential.Material{credential.KeyUsername: credential.SensitiveString(fmt.Sprintf("orders-%d", ref.Seq))}, nil
}

func (s *provider) Preflight(context.Context, credential.Ref) error { return s.preflight() }

// Stage first revokes what an earlier Stage of the same version left, then generates a key.
func (s *provider) Stage(ctx context.Context, change credential.Change) (credential.Staged, error) {
	if err := (&server{s.world}).reach(); err != nil {
		return credential.Staged{}, err
	}
	seq := change.Ref.Seq
	s.confirm = func() error { return change.Confirm(ctx) }
	if err := s.effect("revoke leftovers", "provider", func() error {
		s.revoke(seq)
		return nil
	}); err != nil {
		return credential.Staged{}, err
	}
	secret := ""
	s.confirm = func() error { return change.Confirm(ctx) }
	err := s.effect("stage", "provider", func() error {
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

func (s *provider) Retire(ctx context.Context, change credential.Change) error {
	return s.end(ctx, "retire", change, func(k key) bool { return k.seq == change.Ref.Seq })
}

// Remove implements credential.Remover.
func (s *provider) Remove(ctx context.Context, change credential.Change) error {
	return s.end(ctx, "remove", change, func(key) bool { return true })
}

func (s *provider) end(ctx context.Context, kind string, change credential.Change, which func(key) bool) error {
	if err := (&server{s.world}).reach(); err != nil {
		return err
	}
	s.confirm = func() error { return change.Confirm(ctx) }
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
