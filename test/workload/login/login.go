// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package login builds a connection's configuration from the keys of a published PostgreSQL login, as a careful client
// does: all keys from one version of the Secret, the server's certificate verified, no second host and no retry.
package login

import (
	"crypto/x509"
	"errors"

	"github.com/jackc/pgx/v5"
)

// Keys of the Secret that Config reads.
var Keys = []string{"uri", "password", "certificates"}

// Config returns the configuration for the keys. No error quotes any of them.
func Config(files map[string][]byte, applicationName string) (*pgx.ConnConfig, error) {
	config, err := pgx.ParseConfig(string(files["uri"]))
	if err != nil {
		return nil, errors.New("reading the login: the Secret's uri is not a connection URI") // the cause may quote it
	}
	if config.TLSConfig == nil || config.TLSConfig.InsecureSkipVerify || len(config.Fallbacks) > 0 {
		return nil, errors.New("reading the login: the Secret's uri does not set sslmode verify-full")
	}
	if config.Password != string(files["password"]) {
		return nil, errors.New("reading the login: the passwords in the Secret's keys uri and password differ")
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(files["certificates"]) {
		return nil, errors.New("reading the login: the Secret's key certificates holds no certificate")
	}
	config.TLSConfig.RootCAs = roots
	config.RuntimeParams["application_name"] = applicationName
	return config, nil
}
