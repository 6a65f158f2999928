// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

var background = context.Background()

func conflict() error {
	return apierrors.NewConflict(schema.GroupResource{Resource: "secrets"}, "orders", errors.New("another process wrote first"))
}

// ledgered is a store with a ledger and a user's Secret, like secretstore.Ledgered: two objects, two compare-and-swaps.
type ledgered struct {
	*world
	ledger, secret object // as last read or written
	answer         struct{ ledger, secret object }
}

// Load reads the Secret before the ledger: if another process writes in between, its Secret is newer than what we read,
// and our own write is refused.
func (s *ledgered) Load(context.Context) (secretstore.Snapshot, error) {
	readLedger := func() { s.call(); s.ledger = s.world.ledger }
	readSecret := func() { s.call(); s.secret = s.world.secret }
	if s.ledgerFirst {
		readLedger()
		readSecret()
	} else {
		readSecret()
		readLedger()
	}
	return s.snapshot(), nil
}

func (s *ledgered) Save(_ context.Context, l secretstore.Ledger) (secretstore.Snapshot, error) {
	expected, next := s.ledger.version, object{ledger: l.Clone()}
	forced := false
	err := s.effect("save "+what(s.ledger.ledger, l), "", func() error {
		if s.world.ledger.version != expected && !forced {
			return conflict()
		}
		s.lastVersion++
		next.version = s.lastVersion
		s.world.ledger = next
		if forced {
			s.ledger.version, s.answer.ledger.version = next.version, next.version
		} else {
			s.answer.ledger = next
		}
		return nil
	}, func() {
		forced, next.version = true, expected
		s.answer.ledger = next
	})
	if err != nil {
		return secretstore.Snapshot{}, err
	}
	s.ledger = s.answer.ledger
	return s.snapshot(), nil
}

// Confirm checks that the ledger is still what was last read or written. The remote system asks it at the last moment.
func (s *ledgered) Confirm(context.Context) error {
	if s.world.ledger.version != s.ledger.version {
		return conflict()
	}
	return nil
}

// what names a change of the ledger after the step that causes it.
func what(before, after secretstore.Ledger) string {
	stage := func(r *secretstore.Record) rotation.Stage {
		if r == nil {
			return ""
		}
		return r.Stage
	}
	switch {
	case before.TakeOver != after.TakeOver:
		return "Handover"
	case after.Pending != nil && stage(before.Pending) != stage(after.Pending):
		return string(stage(after.Pending))
	case after.Current != nil && (before.Current == nil || before.Current.Seq != after.Current.Seq) && before.Pending != nil:
		return "Current"
	case after.Current != nil && before.Current != nil && before.Current.Seq != after.Current.Seq:
		return "Renumbered"
	case after.Current != nil && before.Current != nil && !after.Current.PublishedAt.Equal(before.Current.PublishedAt):
		return "Published"
	case before.Previous != nil && after.Previous == nil:
		return "Retired"
	case before.Pending != nil && after.Pending == nil:
		return "Dropped"
	}
	return "Request"
}

func (s *ledgered) Publish(context.Context) (secretstore.Snapshot, error) {
	if s.secret.foreign {
		return secretstore.Snapshot{}, fault.Permanent(fault.SecretConflict, errors.New("the Secret belongs to another owner"))
	}
	expected, current := s.secret.version, s.ledger.ledger.Current
	next := object{shows: current.Material, seq: current.Seq}
	forced := false
	err := s.effect("publish", "", func() error {
		if s.world.secret.version != expected && !forced {
			return conflict()
		}
		s.lastVersion++
		next.version = s.lastVersion
		s.world.secret, s.answer.secret = next, next
		return nil
	}, func() {
		forced, next.version = true, -1 // a version that does not exist
		s.answer.secret = next
	})
	if err != nil {
		return secretstore.Snapshot{}, err
	}
	s.secret = s.answer.secret
	return s.snapshot(), nil
}

func (s *ledgered) Withdraw(context.Context) error {
	if !s.spec.delete {
		return s.effect("label the ledger", "", func() error { return nil })
	}
	if err := s.effect("delete the Secret", "", func() error {
		if !s.world.secret.foreign {
			s.world.secret = object{}
		}
		return nil
	}); err != nil {
		return err
	}
	return s.effect("delete the ledger", "", func() error { s.world.ledger = object{}; return nil })
}

func (s *ledgered) snapshot() secretstore.Snapshot {
	return secretstore.Snapshot{Ledger: s.ledger.ledger.Clone(), Target: target(s.secret, s.ledger.ledger.Current), Conflict: "it belongs to another owner"}
}

func target(secret object, current *secretstore.Record) rotation.TargetState {
	switch {
	case secret.version == 0:
		return rotation.TargetMissing
	case secret.foreign:
		return rotation.TargetForeign
	case current != nil && secret.shows.Equal(current.Material):
		return rotation.TargetShowsCurrent
	}
	return rotation.TargetDiffers
}

// published is a store whose only object is the user's Secret, like secretstore.Published.
type published struct {
	*world
	fingerprint string
	secret      object
	memory      secretstore.Ledger
}

func (s *published) Load(context.Context) (secretstore.Snapshot, error) {
	s.secret = s.cachedSecret()
	s.memory = s.secret.ledger.Clone()
	return s.snapshot(), nil
}

func (s *published) Save(_ context.Context, l secretstore.Ledger) (secretstore.Snapshot, error) {
	unchanged := l.Current == nil || (s.memory.Current != nil && s.memory.Current.Seq == l.Current.Seq && s.memory.Rotate == l.Rotate)
	if unchanged {
		s.memory = l.Clone()
		return s.snapshot(), nil
	}
	if s.secret.foreign {
		return secretstore.Snapshot{}, fault.Permanent(fault.SecretConflict, errors.New("the Secret belongs to another owner"))
	}
	next := object{shows: l.Current.Material, seq: l.Current.Seq, ledger: l.Clone()}
	next.ledger.Pending = nil
	expected := s.secret.version
	var written object
	err := s.effect("save Current", "", func() error {
		if s.world.secret.version != expected {
			return conflict()
		}
		s.lastVersion++
		next.version = s.lastVersion
		s.world.secret, written = next, next
		return nil
	})
	if err != nil {
		return secretstore.Snapshot{}, err
	}
	s.secret, s.memory = written, l.Clone()
	return s.snapshot(), nil
}

func (s *published) Publish(context.Context) (secretstore.Snapshot, error) {
	return s.snapshot(), errors.New("nothing of a certificate's Secret can differ in this world but the certificate")
}

func (s *published) Withdraw(context.Context) error {
	return s.effect("delete the Secret", "", func() error {
		if s.spec.delete {
			s.world.secret = object{}
		}
		return nil
	})
}

func (s *published) snapshot() secretstore.Snapshot {
	return secretstore.Snapshot{Ledger: s.memory.Clone(), Target: target(s.secret, s.memory.Current), Conflict: "it belongs to another owner"}
}

// authority signs certificates at once, and remembers nothing.
type authority struct{ *world }

func (s *authority) Traits() credential.Traits { return s.traits() }

func (s *authority) Propose(ref credential.Ref) (credential.Material, error) { return s.propose(ref) }

func (s *authority) Preflight(context.Context, credential.Ref) error { return s.preflight() }

func (s *authority) Stage(_ context.Context, change credential.Change) (credential.Staged, error) {
	err := s.effect("sign", "authority", func() error { return nil })
	m := change.Material
	return credential.Staged{
		Material: m.With(credential.KeyCertificate, []byte("certificate of "+m.String(credential.KeyPassword))), NotAfter: s.now.Add(10 * time.Hour),
	}, err
}

func (s *authority) Verify(context.Context, credential.Ref, credential.Material) (credential.Answer, error) {
	return credential.Accepted, s.effect("lint", "authority", func() error { return nil })
}

func (s *authority) Retire(context.Context, credential.Change) error { return nil }

// propose returns material that no version had before.
func (w *world) propose(ref credential.Ref) (credential.Material, error) {
	w.passwords++
	return credential.Material{
		credential.KeyUsername: credential.SensitiveString(ref.Slot),
		credential.KeyPassword: credential.SensitiveString(fmt.Sprintf("password-%d", w.passwords)),
	}, nil
}

// preflight reads the object live before a first version is created, as a controller does.
func (w *world) preflight() error {
	if w.spec.deleting {
		return fault.Blocked(fault.RemoteFailed, errors.New("the object is gone"))
	}
	return nil
}

// server is the remote system of the logins: two logins with a marker each, which fence by number.
type server struct{ *world }

func (s *server) Traits() credential.Traits { return s.traits() }

func (s *server) Propose(ref credential.Ref) (credential.Material, error) { return s.propose(ref) }

func (s *server) Preflight(context.Context, credential.Ref) error { return s.preflight() }

func (s *server) Stage(_ context.Context, change credential.Change) (credential.Staged, error) {
	ref, m := change.Ref, change.Material
	if err := s.reach(); err != nil {
		return credential.Staged{}, err
	}
	password := m.String(credential.KeyPassword)
	err := s.effect("stage", ref.Slot, func() error {
		l := s.slots[ref.Slot]
		switch {
		case s.locks && s.underWay(ref.Slot):
			return fault.Transient(fault.LockTimeout, errors.New("a change is still under way"))
		case l.exists && l.owner != ref.Owner() && l.owner != "":
			return fault.Permanent(fault.Fenced, errors.New("the marker names another owner"))
		case l.exists && (l.seq > ref.Seq || (l.seq == ref.Seq && l.retired)):
			return fault.Permanent(fault.Fenced, errors.New("the marker is newer"))
		}
		before := *l
		*l = login{exists: true, enabled: true, password: password, owner: ref.Owner(), seq: ref.Seq}
		s.watch.staged(s.world, before, *l)
		return nil
	})
	if err != nil {
		return credential.Staged{}, err
	}
	return credential.Staged{Material: m.Clone()}, nil
}

func (s *server) Verify(_ context.Context, ref credential.Ref, m credential.Material) (credential.Answer, error) {
	if err := s.reach(); err != nil {
		return credential.Unknown, err
	}
	answer := credential.Rejected
	err := s.effect("verify", ref.Slot+"?", func() error {
		switch {
		case s.accepts(m):
			answer = credential.Accepted
			s.watch.proven[m.String(credential.KeyPassword)] = true
		case s.underWay(ref.Slot):
			return fault.Pending(lateMost, errors.New("a change is still under way"))
		}
		return nil
	}, func() { answer = credential.Accepted })
	if err != nil {
		return credential.Unknown, err
	}
	return answer, nil
}

func (s *server) Retire(_ context.Context, change credential.Change) error {
	ref := change.Ref
	if err := s.reach(); err != nil {
		return err
	}
	return s.effect("retire", ref.Slot, func() error {
		l := s.slots[ref.Slot]
		switch {
		case s.underWay(ref.Slot) && (!l.exists || s.locks):
			return fault.Transient(fault.LockTimeout, errors.New("a change is still under way"))
		case l.exists && l.owner != ref.Owner():
			return fault.Permanent(fault.Fenced, errors.New("the marker names another owner"))
		case !l.exists || l.seq > ref.Seq:
			return nil
		case s.locks && l.seq == ref.Seq:
			*l = login{exists: true, owner: l.owner, seq: ref.Seq}
		case !s.locks:
			*l = login{exists: true, owner: l.owner, seq: ref.Seq, retired: true}
		}
		return nil
	})
}

func (s *server) Remove(_ context.Context, change credential.Change) error {
	ref := change.Ref
	if err := s.reach(); err != nil {
		return err
	}
	return s.effect("remove", ref.Slot, func() error {
		if s.underWay(ref.Slot) {
			return fault.Transient(fault.LockTimeout, errors.New("a change is still under way"))
		}
		if l := s.slots[ref.Slot]; l.owner == ref.Owner() {
			*l = login{}
		}
		return nil
	})
}

func (s *server) Marker(_ context.Context, ref credential.Ref) (credential.Marker, error) {
	s.call()
	if err := s.reach(); err != nil {
		return credential.Marker{}, err
	}
	l := s.slots[ref.Slot]
	return credential.Marker{Exists: l.exists, Owner: l.owner, Seq: l.seq}, nil
}

// TakeOver implements credential.Heir.
func (s *server) TakeOver(_ context.Context, change credential.Change, former string) error {
	ref := change.Ref
	if err := s.reach(); err != nil {
		return err
	}
	return s.effect("take over", "both", func() error {
		for _, l := range s.slots {
			if l.owner == former {
				l.owner = ref.Owner()
			}
		}
		return nil
	})
}

func (s *server) Sessions(context.Context, credential.Ref) (credential.Sessions, error) {
	return credential.Sessions{Count: 1}, nil
}

func (s *server) reach() error {
	s.remoteCalls++
	if s.now.Before(s.upAt) {
		s.call()
		return fault.Transient(fault.ServerUnreachable, errDown)
	}
	return nil
}
