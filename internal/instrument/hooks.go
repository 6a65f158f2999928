// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package instrument

import (
	"github.com/jackc/pgx/v5"

	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/issuer"
)

// Hooks wrap what the manager is built from.
type Hooks struct {
	// Engine wraps the engine of one database product.
	Engine func(database.Engine) database.Engine
	// Issuer wraps what opens the authorities of one member of the union.
	Issuer func(issuer.Opener) issuer.Opener
	// Tracer sees every statement that an engine executes; nil for none.
	Tracer pgx.QueryTracer
}
