// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package databasetest

import (
	"context"

	"github.com/rekey/rekey/internal/credential/sourcetest"
	"github.com/rekey/rekey/internal/database"
)

// Faulty is an engine in front of another one. It makes the calls of its sessions, and Check, fail according to Faults.
type Faulty struct {
	sourcetest.Faults

	inner database.Engine
}

// NewFaulty returns an engine in front of inner. Its sessions have exactly the powers of inner's.
func NewFaulty(inner database.Engine) *Faulty { return &Faulty{inner: inner} }

// Info implements database.Engine.
func (f *Faulty) Info() database.Info { return f.inner.Info() }

// Shape implements database.Engine.
func (f *Faulty) Shape(target database.Target) (database.Shape, error) { return f.inner.Shape(target) }

// Open implements database.Engine. It is not counted: it has no effect on the server.
func (f *Faulty) Open(ctx context.Context, server database.Server, target database.Target) (database.Session, error) {
	session, err := f.inner.Open(ctx, server, target)
	if err != nil {
		return nil, err
	}
	return database.Intercept(session, f.Call), nil
}

// Check implements database.Engine.
func (f *Faulty) Check(ctx context.Context, server database.Server) (report database.Report, err error) {
	if failed := f.Call(ctx, "Check", func(ctx context.Context) { report, err = f.inner.Check(ctx, server) }); failed != nil {
		return database.Report{}, failed
	}
	return report, err
}
