// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package twoleaders

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/databasetest"
)

// databaseServer is the server whose logins are rotated, as its administrator sees it.
type databaseServer interface {
	// engine for a process. trace, where given, is called before every statement, if there are statements.
	engine(trace func(what string)) database.Engine
	// ready makes what the credential needs, when the world is there.
	ready(d *twoLeaders)
	// dress fills in where the server is and who administers it.
	dress(admin *corev1.Secret, server *v1alpha1.DatabaseServer)
	// base of the logins, and their owner.
	base() (username, owner string)
	logins
}

// logins of a server.
type logins interface {
	// login tells how a login is: a hash or the like of its password, and whether it is open.
	login(name string) state
	// accepts tells whether a client could log in.
	accepts(name, password string) bool
}

// state of a login. Two are equal if nothing changed that a client would notice.
type state struct {
	there, open bool
	secret      string
}

type fakeDatabase struct{ fake *databasetest.Fake }

func (f fakeDatabase) engine(func(string)) database.Engine { return f.fake }
func (f fakeDatabase) ready(*twoLeaders)                   {}

func (f fakeDatabase) dress(*corev1.Secret, *v1alpha1.DatabaseServer) {}

func (f fakeDatabase) base() (username, owner string) { return "orders_app", "orders_owner" }

func (f fakeDatabase) login(name string) state {
	login, there := f.fake.Login(name)
	return state{there: there, open: login.CanLogin, secret: login.Password}
}

func (f fakeDatabase) accepts(name, password string) bool { return f.fake.Accepts(name, password) }

// watched is the engine of one process: every call is an effect.
type watched struct {
	database.Engine

	actor *actor
}

// Open implements database.Engine.
func (w watched) Open(ctx context.Context, target database.Target) (database.Session, error) {
	session, err := w.Engine.Open(ctx, target)
	if err != nil {
		return nil, err
	}
	return &watchedSession{session.(powers), w.actor, target.Username}, nil
}

// Check implements database.Engine.
func (w watched) Check(ctx context.Context, server database.Server) (database.Report, error) {
	if !w.actor.effect("call Check") {
		return database.Report{}, errOver
	}
	return w.Engine.Check(ctx, server)
}

// powers is a session with every optional power.
type powers interface {
	database.Session
	database.Preflighter
	credential.Remover
	credential.Owned
	credential.Counter
}

type watchedSession struct {
	powers

	actor    *actor
	username string
}

// call makes a call, and tells what it is while it may change something.
func (s *watchedSession) call(name string, ref credential.Ref, changes bool, do func() error) error {
	what := fmt.Sprintf("call %s seq %d slot %s", name, ref.Seq, ref.Slot)
	if !s.actor.effect(what) {
		return errOver
	}
	d := s.actor.play
	if changes {
		s.actor.calling = fmt.Sprintf("%s of version %d", name, ref.Seq)
	}
	err := do()
	if changes {
		d.watch.compare(s.actor)
		s.actor.calling = ""
	}
	text := "ok"
	if err != nil {
		text = err.Error()
	}
	d.note(fmt.Sprintf("%s: %s: %s", s.actor.name, what, text))
	return err
}

// Stage implements credential.Source.
func (s *watchedSession) Stage(ctx context.Context, ref credential.Ref, proposed credential.Material) (out credential.Material, err error) {
	err = s.call("Stage", ref, true, func() error {
		if fake, ok := s.actor.play.database.(fakeDatabase); ok && s.actor.broken == brokenMark {
			fake.fake.Put(s.username+"_"+ref.Slot, databasetest.FakeLogin{
				Password: proposed.String(credential.KeyPassword), CanLogin: true, Owner: ref.Owner(), Seq: ref.Seq})
			out = proposed
			return nil
		}
		out, err = s.powers.Stage(ctx, ref, proposed)
		return err
	})
	return out, err
}

// Verify implements credential.Source.
func (s *watchedSession) Verify(ctx context.Context, ref credential.Ref, m credential.Material) (answer credential.Answer, err error) {
	err = s.call("Verify", ref, false, func() error {
		answer, err = s.powers.Verify(ctx, ref, m)
		return err
	})
	return answer, err
}

// Retire implements credential.Source.
func (s *watchedSession) Retire(ctx context.Context, ref credential.Ref) error {
	return s.call("Retire", ref, true, func() error {
		if fake, ok := s.actor.play.database.(fakeDatabase); ok && s.actor.broken == brokenMark {
			fake.fake.Put(s.username+"_"+ref.Slot, databasetest.FakeLogin{Owner: ref.Owner(), Seq: ref.Seq, Retired: true})
			return nil
		}
		return s.powers.Retire(ctx, ref)
	})
}

// Remove implements credential.Remover.
func (s *watchedSession) Remove(ctx context.Context, ref credential.Ref) error {
	return s.call("Remove", ref, true, func() error { return s.powers.Remove(ctx, ref) })
}

// Preflight implements database.Preflighter.
func (s *watchedSession) Preflight(ctx context.Context, ref credential.Ref) error {
	return s.call("Preflight", ref, false, func() error { return s.powers.Preflight(ctx, ref) })
}

// Marker implements credential.Marked.
func (s *watchedSession) Marker(ctx context.Context, ref credential.Ref) (out credential.Marker, err error) {
	err = s.call("Marker", ref, false, func() error {
		out, err = s.powers.Marker(ctx, ref)
		return err
	})
	return out, err
}

// Sessions implements credential.Counter.
func (s *watchedSession) Sessions(ctx context.Context, ref credential.Ref) (out credential.Sessions, err error) {
	err = s.call("Sessions", ref, false, func() error {
		out, err = s.powers.Sessions(ctx, ref)
		return err
	})
	return out, err
}

// TakeOver implements credential.Heir.
func (s *watchedSession) TakeOver(ctx context.Context, ref credential.Ref, former string) error {
	return s.call("TakeOver", ref, true, func() error { return s.powers.TakeOver(ctx, ref, former) })
}
