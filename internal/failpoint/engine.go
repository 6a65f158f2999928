// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package failpoint

import (
	"context"
	"errors"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
)

// Engine returns an engine with a point before and after every call that sends something to a server or uses a login. The
// points of its statements carry the name of the call.
func (p *Points) Engine(inner database.Engine) database.Engine { return tracked{inner, p} }

type tracked struct {
	database.Engine
	points *Points
}

// Open implements database.Engine.
func (b tracked) Open(ctx context.Context, target database.Target) (database.Session, error) {
	session, err := b.Engine.Open(ctx, target)
	if err != nil {
		return nil, err
	}
	able, ok := session.(abilities)
	if !ok {
		session.Close()
		return nil, errors.New("setting failpoints: the session lacks one of the optional powers")
	}
	return trackedSession{able, b.points}, nil
}

// Check implements database.Engine.
func (b tracked) Check(ctx context.Context, server database.Server) (database.Report, error) {
	return b.Engine.Check(context.WithValue(ctx, callKey{}, "Check"), server)
}

// abilities are the optional interfaces of a session that must not get lost.
type abilities interface {
	database.Session
	credential.SessionCounter
	credential.Owned
	credential.Remover
	credential.Preflighter
}

type trackedSession struct {
	abilities
	points *Points
}

// call runs one call between its points.
func call[T any](ctx context.Context, p *Points, name string, fn func(context.Context) (T, error)) (T, error) {
	return around(p, name, func() (T, error) { return fn(context.WithValue(ctx, callKey{}, name)) })
}

// Stage implements credential.Source.
func (s trackedSession) Stage(ctx context.Context, change credential.Change) (credential.Staged, error) {
	return call(ctx, s.points, "Stage", func(ctx context.Context) (credential.Staged, error) {
		return s.abilities.Stage(ctx, change)
	})
}

// Verify implements credential.Source.
func (s trackedSession) Verify(ctx context.Context, ref credential.Ref, material credential.Material) (credential.Answer, error) {
	return call(ctx, s.points, "Verify", func(ctx context.Context) (credential.Answer, error) {
		return s.abilities.Verify(ctx, ref, material)
	})
}

// Retire implements credential.Source.
func (s trackedSession) Retire(ctx context.Context, change credential.Change) error {
	_, err := call(ctx, s.points, "Retire", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.abilities.Retire(ctx, change)
	})
	return err
}

// Remove implements credential.Remover.
func (s trackedSession) Remove(ctx context.Context, change credential.Change) error {
	_, err := call(ctx, s.points, "Remove", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.abilities.Remove(ctx, change)
	})
	return err
}

// TakeOver implements credential.Heir.
func (s trackedSession) TakeOver(ctx context.Context, change credential.Change, former string) error {
	_, err := call(ctx, s.points, "TakeOver", func(ctx context.Context) (struct{}, error) {
		return struct{}{}, s.abilities.TakeOver(ctx, change, former)
	})
	return err
}
