// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package servicebinding

import (
	"net"
	"net/url"
	"strconv"

	"github.com/rekey/rekey/internal/credential"
)

// Endpoint is what a client needs besides the login to reach a PostgreSQL database.
type Endpoint struct {
	// Host without the port; an IPv6 address without brackets.
	Host string
	// Port from 1 to 65535.
	Port int
	// Database to connect to.
	Database string
	// SSLMode as libpq names it: disable, require, verify-ca, verify-full.
	SSLMode string
	// Certificates holds the trust anchors, PEM; empty if the key certificates is to be left out.
	Certificates []byte
}

// PostgreSQL returns the data of a Secret for a login to PostgreSQL: type, provider, host, port, database, username and password,
// which the specification names, and also sslmode, certificates and uri. The uri holds everything in one key, so that a reader
// cannot mix an old username with a new password.
func PostgreSQL(login credential.Material, to Endpoint) map[string][]byte {
	data := map[string][]byte{
		"type":     []byte("postgresql"),
		"provider": []byte("rekey"),
		"host":     []byte(to.Host),
		"port":     []byte(strconv.Itoa(to.Port)),
		"database": []byte(to.Database),
		"username": append([]byte(nil), login[credential.KeyUsername].Reveal()...),
		"password": append([]byte(nil), login[credential.KeyPassword].Reveal()...),
		"sslmode":  []byte(to.SSLMode),
		"uri":      []byte(uri(login, to)),
	}
	if len(to.Certificates) > 0 {
		data["certificates"] = append([]byte(nil), to.Certificates...)
	}
	return data
}

// uri returns the connection URI (PostgreSQL, "Connection URIs").
func uri(login credential.Material, to Endpoint) string {
	u := url.URL{
		Scheme: "postgresql",
		User:   url.UserPassword(login.String(credential.KeyUsername), login.String(credential.KeyPassword)),
		Host:   net.JoinHostPort(to.Host, strconv.Itoa(to.Port)),
		Path:   "/" + to.Database,
		// An unescaped slash inside the name would end it for libpq.
		RawPath:  "/" + url.PathEscape(to.Database),
		RawQuery: url.Values{"sslmode": {to.SSLMode}}.Encode(),
	}
	return u.String()
}
