// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package databasetest

import (
	"context"
	"fmt"
	"slices"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

// TakeOver implements credential.Heir.
func (s *fakeSession) TakeOver(ctx context.Context, change credential.Change, former string) error {
	ref := change.Ref
	return s.fake.change(ctx, change, "TakeOver", s.shape.Logins[s.shape.Traits.Slots[0]], func() error {
		var handed []*FakeLogin
		for _, slot := range s.Traits().Slots {
			name := s.shape.Logins[slot]
			login, ok := s.fake.logins[name]
			switch {
			case !ok || login.Owner == "" || login.Owner == ref.Owner():
			case login.Owner != former:
				return s.mark(name, login, ref)
			default:
				handed = append(handed, login)
			}
		}
		for _, login := range handed {
			login.Owner = ref.Owner()
		}
		return nil
	})
}

// Marker implements credential.MarkerReader.
func (s *fakeSession) Marker(ctx context.Context, ref credential.Ref) (credential.Marker, error) {
	name, err := s.name(ref)
	if err != nil {
		return credential.Marker{}, err
	}
	var marker credential.Marker
	err = s.fake.call(ctx, "Marker", func() error {
		if login, ok := s.fake.logins[name]; ok {
			marker = credential.Marker{Exists: true, Owner: login.Owner, Seq: login.Seq, Open: login.CanLogin && !login.Retired}
		}
		return nil
	})
	return marker, err
}

// Sessions implements credential.SessionCounter.
func (s *fakeSession) Sessions(ctx context.Context, ref credential.Ref) (credential.Sessions, error) {
	name, err := s.name(ref)
	if err != nil {
		return credential.Sessions{}, err
	}
	var sessions credential.Sessions
	err = s.fake.call(ctx, "Sessions", func() error {
		if login, ok := s.fake.logins[name]; ok {
			clients := slices.Compact(slices.Sorted(slices.Values(login.Sessions)))
			sessions = credential.Sessions{Count: len(login.Sessions), Clients: clients[:min(5, len(clients))]}
		}
		return nil
	})
	return sessions, err
}

// Preflight implements credential.Preflighter.
func (s *fakeSession) Preflight(ctx context.Context, ref credential.Ref) error {
	return s.fake.call(ctx, "Preflight", func() error {
		if s.fake.preflight != nil {
			return s.fake.preflight
		}
		if allowed := s.allowed.AllowedOwners; !slices.Contains(allowed, s.settings.Owner) && !slices.Contains(allowed, "*") {
			return fault.Permanent(fault.OwnerForbidden, fmt.Errorf("checking owner %q: the server does not allow it", s.settings.Owner))
		}
		for _, slot := range s.Traits().Slots {
			name := s.shape.Logins[slot]
			login, ok := s.fake.logins[name]
			if !ok && !s.target.Create {
				return fault.Blocked(fault.LoginNotFound, fmt.Errorf("checking login %q: it does not exist", name))
			}
			if ok && (login.Owner == "" || login.Owner != credential.Former(ctx)) {
				if err := s.mark(name, login, ref); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
