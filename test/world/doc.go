// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package world is what the proofs run in: a namespace on a real API server, a clock that only the test moves, and as many
// processes as the test wants. A process is rekey's controllers without a manager: the test decides when a pass is made, and
// a hook sees every API request before and after it takes effect. Throwing a process away is its death.
//
//	func TestMain(m *testing.M) { os.Exit(world.Main(m)) }
//
//	w := world.New(t, nil)                  // nil: the database of the fake that keeps the engines' contract
//	p := w.Start("first", world.Options{})  // a process; its memory begins empty
//	w.Create(credential)
//	p.Hook(func(ctx context.Context, r world.Request, do func() error) error { ... return do() })
//	result, err := p.Pass(credential)
package world
