// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package databasetest

import (
	"fmt"
	"slices"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/database/scram"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/servicebinding"
)

// fakeSettings and fakeServerSettings are those of PostgreSQL, for which the fake may stand in.
type (
	fakeSettings struct {
		Database string `json:"database"`
		Owner    string `json:"owner"`
	}
	fakeServerSettings struct {
		AllowedOwners       []string `json:"allowedOwners"`
		MaintenanceDatabase string   `json:"maintenanceDatabase"`
	}
)

// Info implements database.Engine.
func (f *Fake) Info() database.Info {
	if f.like != nil {
		return f.like.Info()
	}
	return database.Info{Name: "Fake", MaxLogin: 40}
}

// Shape implements database.Engine.
func (f *Fake) Shape(target database.Target) (database.Shape, error) {
	if f.like != nil {
		return f.like.Shape(target)
	}
	if target.Strategy != database.AlternatingUsers {
		return database.Shape{}, fault.Permanent(fault.ServerUnsupported, fmt.Errorf("the fake has no strategy %q", target.Strategy))
	}
	if err := target.Strategy.CheckNames(f.Info(), target.Username); err != nil {
		return database.Shape{}, err
	}
	if err := database.DecodeSettings(target.Settings, &fakeSettings{}, "the settings of the credential"); err != nil {
		return database.Shape{}, err
	}
	return database.Shape{
		Traits: credential.Traits{Durable: true, Provable: true, Revocable: true, Slots: target.Strategy.Slots()},
		Logins: target.Strategy.Logins(target.Username), SecretType: "servicebinding.io/fake", DataKeys: slices.Clone(servicebinding.LoginKeys),
		Complete: func(login credential.Material) (credential.Material, error) {
			verifier, err := scram.Verifier(login[credential.KeyPassword])
			if err != nil {
				return nil, err
			}
			return login.With(credential.KeyVerifier, []byte(verifier)), nil
		},
		Bind: func(server database.Server, login credential.Material) map[string][]byte {
			to := servicebinding.Address{Host: server.Host, Port: server.Port, Certificates: server.CA}
			uri := servicebinding.URL("fake", login, to)
			return servicebinding.Login("fake", login, to, uri.String())
		},
	}, nil
}
