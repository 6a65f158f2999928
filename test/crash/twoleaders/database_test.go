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

// databaseServer is the server that holds the rotated logins, from its administrator's point of view.
type databaseServer interface {
	// engine returns the engine of a process. If trace is set, it is called before every SQL statement.
	engine(trace func(what string)) database.Engine
	// prepare creates what the credential needs, once the world exists.
	prepare(d *twoLeaders)
	// configure fills in the address of the server and its administrator.
	configure(admin *corev1.Secret, server *v1alpha1.DatabaseServer)
	// base returns the base name of the logins, and their owner.
	base() (username, owner string)
	logins
}

// logins are the logins of a server.
type logins interface {
	// login returns the state of a login.
	login(name string) state
	// accepts reports whether a client can log in.
	accepts(name, password string) bool
}

// state is the state of a login: whether it exists and is open, and a hash of its password or the like. Two states are equal if
// no client could notice a difference.
type state struct {
	exists, open bool
	secret       string
}

type fakeDatabase struct{ fake *databasetest.Fake }

func (f fakeDatabase) engine(func(string)) database.Engine { return f.fake }
func (f fakeDatabase) prepare(*twoLeaders)                 {}

func (f fakeDatabase) configure(*corev1.Secret, *v1alpha1.DatabaseServer) {}

func (f fakeDatabase) base() (username, owner string) { return "orders_app", "orders_owner" }

func (f fakeDatabase) login(name string) state {
	login, exists := f.fake.Login(name)
	return state{exists: exists, open: login.CanLogin, secret: login.Password}
}

func (f fakeDatabase) accepts(name, password string) bool { return f.fake.Accepts(name, password) }

// observedEngine is the engine of one process: every call is an effect.
type observedEngine struct {
	database.Engine

	actor *actor
}

// Open implements database.Engine.
func (w observedEngine) Open(ctx context.Context, server database.Server, target database.Target) (database.Session, error) {
	session, err := w.Engine.Open(ctx, server, target)
	if err != nil {
		return nil, err
	}
	return &observedSession{session.(fullSession), w.actor, target.Username}, nil
}

// Check implements database.Engine.
func (w observedEngine) Check(ctx context.Context, server database.Server) (database.Report, error) {
	if !w.actor.effect("call Check") {
		return database.Report{}, errOver
	}
	return w.Engine.Check(ctx, server)
}

// fullSession is a session with every optional interface.
type fullSession interface {
	database.Session
	credential.Preflighter
	credential.Remover
	credential.Owned
	credential.SessionCounter
}

type observedSession struct {
	fullSession

	actor    *actor
	username string
}

// call runs a call. A call that can change something is recorded as the current one while it runs.
func (s *observedSession) call(name string, ref credential.Ref, changes bool, do func() error) error {
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
		d.invariants.checkLogins(s.actor)
		s.actor.calling = ""
	}
	text := "ok"
	if err != nil {
		text = err.Error()
	}
	d.record(fmt.Sprintf("%s: %s: %s", s.actor.name, what, text))
	return err
}

// Stage implements credential.Source.
func (s *observedSession) Stage(ctx context.Context, change credential.Change) (out credential.Staged, err error) {
	ref, proposed := change.Ref, change.Material
	err = s.call("Stage", ref, true, func() error {
		if fake, ok := s.actor.play.database.(fakeDatabase); ok && s.actor.broken == brokenMarker {
			fake.fake.Put(s.username+"_"+ref.Slot, databasetest.FakeLogin{
				Password: proposed.String(credential.KeyPassword), CanLogin: true, Owner: ref.Owner(), Seq: ref.Seq})
			out.Material = proposed
			return nil
		}
		out, err = s.fullSession.Stage(ctx, change)
		return err
	})
	return out, err
}

// Verify implements credential.Source.
func (s *observedSession) Verify(ctx context.Context, ref credential.Ref, m credential.Material) (answer credential.Answer, err error) {
	err = s.call("Verify", ref, false, func() error {
		answer, err = s.fullSession.Verify(ctx, ref, m)
		return err
	})
	return answer, err
}

// Retire implements credential.Source.
func (s *observedSession) Retire(ctx context.Context, change credential.Change) error {
	ref := change.Ref
	return s.call("Retire", ref, true, func() error {
		if fake, ok := s.actor.play.database.(fakeDatabase); ok && s.actor.broken == brokenMarker {
			fake.fake.Put(s.username+"_"+ref.Slot, databasetest.FakeLogin{Owner: ref.Owner(), Seq: ref.Seq, Retired: true})
			return nil
		}
		return s.fullSession.Retire(ctx, change)
	})
}

// Remove implements credential.Remover.
func (s *observedSession) Remove(ctx context.Context, change credential.Change) error {
	return s.call("Remove", change.Ref, true, func() error { return s.fullSession.Remove(ctx, change) })
}

// Preflight implements credential.Preflighter.
func (s *observedSession) Preflight(ctx context.Context, ref credential.Ref) error {
	return s.call("Preflight", ref, false, func() error { return s.fullSession.Preflight(ctx, ref) })
}

// Marker implements credential.MarkerReader.
func (s *observedSession) Marker(ctx context.Context, ref credential.Ref) (out credential.Marker, err error) {
	err = s.call("Marker", ref, false, func() error {
		out, err = s.fullSession.Marker(ctx, ref)
		return err
	})
	return out, err
}

// Sessions implements credential.SessionCounter.
func (s *observedSession) Sessions(ctx context.Context, ref credential.Ref) (out credential.Sessions, err error) {
	err = s.call("Sessions", ref, false, func() error {
		out, err = s.fullSession.Sessions(ctx, ref)
		return err
	})
	return out, err
}

// TakeOver implements credential.Heir.
func (s *observedSession) TakeOver(ctx context.Context, change credential.Change, former string) error {
	return s.call("TakeOver", change.Ref, true, func() error { return s.fullSession.TakeOver(ctx, change, former) })
}
