// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package material

import (
	"net"
	"net/url"
	"strconv"

	"github.com/rekey/rekey/internal/credential"
)

// Login proposes a database login: the username, a new password and its SCRAM verifier.
func Login(username string, length int, alphabet Alphabet) (credential.Material, error) {
	password, err := Password(length, alphabet)
	if err != nil {
		return nil, err
	}
	verifier, err := SCRAMVerifier(password)
	if err != nil {
		return nil, err
	}
	return credential.Material{
		credential.KeyUsername: credential.SensitiveString(username),
		credential.KeyPassword: password,
		credential.KeyVerifier: credential.SensitiveString(verifier),
	}, nil
}

// Binding is what a client needs beside the login to reach a PostgreSQL database.
type Binding struct {
	// Host without the port; an IPv6 address without brackets.
	Host string
	// Port from 1 to 65535.
	Port int
	// Database to connect to.
	Database string
	// SSLMode in libpq's words: disable, require, verify-ca, verify-full.
	SSLMode string
	// Certificates are the trust anchors, PEM; empty where the client is to use none of its own.
	Certificates []byte
}

// ServiceBindingType is the type of the Secret that ServiceBinding makes the data of.
const ServiceBindingType = "servicebinding.io/postgresql"

// ServiceBinding encodes a login as the data of a Secret after the Service Binding Specification 1.1 ("Well-known Secret
// Entries"): type, provider, host, port, database, username, password, and also sslmode, certificates and uri. The uri is
// one key with everything, so that a reader cannot mix an old username with a new password.
func ServiceBinding(login credential.Material, to Binding) map[string][]byte {
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

// uri builds the connection URI (PostgreSQL, "Connection URIs").
func uri(login credential.Material, to Binding) string {
	u := url.URL{
		Scheme: "postgresql",
		User:   url.UserPassword(login.String(credential.KeyUsername), login.String(credential.KeyPassword)),
		Host:   net.JoinHostPort(to.Host, strconv.Itoa(to.Port)),
		Path:   "/" + to.Database,
		// A slash inside the name would end it for libpq.
		RawPath:  "/" + url.PathEscape(to.Database),
		RawQuery: url.Values{"sslmode": {to.SSLMode}}.Encode(),
	}
	return u.String()
}
