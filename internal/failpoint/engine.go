// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package failpoint

import (
	"context"
	"slices"

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
func (b tracked) Open(ctx context.Context, server database.Server, target database.Target) (database.Session, error) {
	session, err := b.Engine.Open(ctx, server, target)
	if err != nil {
		return nil, err
	}
	return database.Intercept(session, b.call), nil
}

// Check implements database.Engine.
func (b tracked) Check(ctx context.Context, server database.Server) (database.Report, error) {
	return b.Engine.Check(context.WithValue(ctx, callKey{}, "Check"), server)
}

// pointed are the calls with points. The others change nothing at the server and use no login.
var pointed = []string{"Stage", "Verify", "Retire", "Remove", "TakeOver"}

// call runs one call between its points.
func (b tracked) call(ctx context.Context, name string, do func(context.Context)) error {
	if !slices.Contains(pointed, name) {
		do(ctx)
		return nil
	}
	_, err := around(b.points, name, func() (struct{}, error) {
		do(context.WithValue(ctx, callKey{}, name))
		return struct{}{}, nil
	})
	return err
}
