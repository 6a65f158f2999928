// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"fmt"
	"slices"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/scram"
	"github.com/rekey/rekey/internal/fault"
)

// settings is the block of PostgreSQL in the spec of a credential.
type settings struct {
	// Database is the database that the login must be able to use.
	Database string `json:"database"`
	// Owner is the role that the logins act as.
	Owner string `json:"owner"`
}

// serverSettings is the block of PostgreSQL in the spec of a server.
type serverSettings struct {
	// AllowedOwners are patterns in which * matches any number of characters.
	AllowedOwners []string `json:"allowedOwners"`
	// MaintenanceDatabase is the database that the admin connects to. If it is empty, that is defaultMaintenance or, if that does
	// not admit the admin, the credential's database or one of Databases.
	MaintenanceDatabase string `json:"maintenanceDatabase"`
}

// server is a server with its settings decoded.
type server struct {
	database.Server
	serverSettings

	// Databases are some of the databases of the credentials on this server, for Check.
	Databases []string
}

// target is a target with its settings decoded, and its server.
type target struct {
	database.Target
	settings

	Server server
}

// maxDatabases is how many databases are tried in turn if the admin cannot connect to the maintenance database.
const maxDatabases = 5

func newServer(of database.Server) (server, error) {
	out := server{Server: of}
	if err := database.DecodeSettings(of.Settings, &out.serverSettings, "the PostgreSQL settings of the server"); err != nil {
		return server{}, err
	}
	for _, block := range of.Credentials {
		var found settings
		if err := database.DecodeSettings(block, &found, "the PostgreSQL settings of a credential"); err == nil && found.Database != "" {
			out.Databases = append(out.Databases, found.Database)
		}
	}
	slices.Sort(out.Databases)
	out.Databases = slices.Compact(out.Databases)
	out.Databases = out.Databases[:min(len(out.Databases), maxDatabases)]
	return out, nil
}

func newTarget(on database.Server, of database.Target) (target, error) {
	out := target{Target: of}
	var err error
	if out.Server, err = newServer(on); err != nil {
		return target{}, err
	}
	if err := database.DecodeSettings(of.Settings, &out.settings, "the PostgreSQL settings of the credential"); err != nil {
		return target{}, err
	}
	return out, nil
}

// Info implements database.Engine.
func (e *engine) Info() database.Info {
	return database.Info{Name: "PostgreSQL", MaxLogin: maxIdentifier}
}

// traits are those of every session.
func traits() credential.Traits {
	return credential.Traits{Durable: true, Provable: true, Revocable: true, Slots: database.AlternatingUsers.Slots()}
}

// Shape implements database.Engine.
func (e *engine) Shape(of database.Target) (database.Shape, error) {
	if of.Strategy != database.AlternatingUsers {
		return database.Shape{}, fault.Permanent(fault.ServerUnsupported, fmt.Errorf("PostgreSQL has no strategy %q: use %s", of.Strategy, database.AlternatingUsers))
	}
	if err := of.Strategy.CheckNames(e.Info(), of.Username); err != nil {
		return database.Shape{}, err
	}
	var own settings
	if err := database.DecodeSettings(of.Settings, &own, "the PostgreSQL settings of the credential"); err != nil {
		return database.Shape{}, err
	}
	return database.Shape{
		Traits: traits(), Logins: of.Strategy.Logins(of.Username), SecretType: secretType, DataKeys: bindingKeys,
		Complete: func(login credential.Material) (credential.Material, error) {
			verifier, err := scram.Verifier(login[credential.KeyPassword])
			if err != nil {
				return nil, err
			}
			return login.With(credential.KeyVerifier, []byte(verifier)), nil
		},
		Bind: func(on database.Server, login credential.Material) map[string][]byte {
			return binding(on, login, own.Database)
		},
	}, nil
}
