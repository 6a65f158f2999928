// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package world is the environment of the proofs: a namespace on a real API server, a clock that only the test moves, and
// any number of processes. A process is rekey's controllers without a manager: the test decides when to reconcile, and a
// hook sees every API request before and after it takes effect. Dropping a process simulates its crash.
//
//	func TestMain(m *testing.M) { os.Exit(world.Main(m)) }
//
//	w := world.New(t, nil)                  // nil: the database of the fake that keeps the engines' contract
//	p := w.Start("first", world.Options{})  // a process; its memory starts empty
//	w.Create(credential)
//	p.Hook(func(ctx context.Context, r world.Request, do func() error) error { ... return do() })
//	result, err := p.Reconcile(credential)
package world
