// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"context"

	"github.com/rekey/rekey/internal/credential"
)

// Intercept returns a session that runs every call through a function, and has exactly the optional interfaces of the wrapped
// session. See credential.Intercepted.
func Intercept(behind Session, call func(ctx context.Context, name string, do func(context.Context)) error) Session {
	return intercepted{credential.Intercepted{Source: behind, Call: call}, behind}
}

type intercepted struct {
	credential.Intercepted

	session Session
}

// Close implements Session.
func (s intercepted) Close() { s.session.Close() }
