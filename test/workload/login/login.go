// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package login makes a connection's configuration out of the keys of a published PostgreSQL login, as a careful client
// does: everything from one version of the Secret, the server's certificate verified, no second host and no second try.
package login

import (
	"crypto/x509"
	"errors"

	"github.com/jackc/pgx/v5"
)

// Keys of the Secret that Config reads.
var Keys = []string{"uri", "password", "certificates"}

// Config reads the keys. No error quotes any of them.
func Config(files map[string][]byte, applicationName string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(string(files["uri"]))
	if err != nil {
		return nil, errors.New("reading the login: the Secret's uri is no connection URI") // the cause may quote it
	}
	if config.TLSConfig == nil || config.TLSConfig.InsecureSkipVerify || len(config.Fallbacks) > 0 {
		return nil, errors.New("reading the login: the Secret's uri does not ask for sslmode verify-full")
	}
	if config.Password != string(files["password"]) {
		return nil, errors.New("reading the login: the Secret's uri has another password than the key password")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(files["certificates"]) {
		return nil, errors.New("reading the login: the key certificates holds no certificate")
	}
	config.TLSConfig.RootCAs = roots
	config.RuntimeParams["application_name"] = applicationName
	return config, nil
}
