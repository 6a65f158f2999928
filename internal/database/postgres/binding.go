// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"net/url"
	"slices"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/servicebinding"
)

// secretType is the type of the user's Secret.
const secretType = "servicebinding.io/postgresql"

// bindingKeys are the keys that binding may return.
var bindingKeys = slices.Concat(servicebinding.LoginKeys, []string{"database", "sslmode"})

// sslModes are libpq's sslmode values by TLS mode.
var sslModes = map[database.TLSMode]string{
	database.TLSDisable: "disable", database.TLSRequire: "require", database.TLSVerifyCA: "verify-ca", database.TLSVerifyFull: "verify-full",
}

// binding returns the data of a Secret for a login to a database: what servicebinding.Login returns, database, which the
// specification names too, and sslmode.
func binding(server database.Server, login credential.Material, name string) map[string][]byte {
	to := servicebinding.Address{Host: server.Host, Port: server.Port, Certificates: server.CA}
	mode := sslModes[server.TLS]
	uri := servicebinding.URL("postgresql", login, to)
	// An unescaped slash inside the name would end it for libpq (PostgreSQL, "Connection URIs").
	uri.Path, uri.RawPath = "/"+name, "/"+url.PathEscape(name)
	uri.RawQuery = url.Values{"sslmode": {mode}}.Encode()
	data := servicebinding.Login("postgresql", login, to, uri.String())
	data["database"], data["sslmode"] = []byte(name), []byte(mode)
	return data
}
