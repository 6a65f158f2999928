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
	// KeyPairs wraps the issuer whose keys rekey holds.
	KeyPairs func(issuer.KeyPairs) issuer.KeyPairs
	// Tracer sees every statement that an engine executes; nil for none.
	Tracer pgx.QueryTracer
}
