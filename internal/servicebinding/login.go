// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package servicebinding

import (
	"net"
	"net/url"
	"strconv"

	"github.com/rekey/rekey/internal/credential"
)

// Address is where a client reaches a service.
type Address struct {
	// Host without the port; an IPv6 address without brackets.
	Host string
	// Port from 1 to 65535.
	Port int
	// Certificates holds the trust anchors, PEM; empty if the key certificates is to be left out.
	Certificates []byte
}

// LoginKeys are the keys that Login may return.
var LoginKeys = []string{"type", "provider", "host", "port", "username", "password", "uri", "certificates"}

// Login returns the data of a Secret for a login to a service: type, provider, host, port, username, password and uri, which the
// specification names, and also certificates. The uri holds everything in one key, so that a reader cannot mix an old username
// with a new password.
func Login(kind string, login credential.Material, to Address, uri string) map[string][]byte {
	data := map[string][]byte{
		"type":     []byte(kind),
		"provider": []byte("rekey"),
		"host":     []byte(to.Host),
		"port":     []byte(strconv.Itoa(to.Port)),
		"username": append([]byte(nil), login[credential.KeyUsername].Reveal()...),
		"password": append([]byte(nil), login[credential.KeyPassword].Reveal()...),
		"uri":      []byte(uri),
	}
	if len(to.Certificates) > 0 {
		data["certificates"] = append([]byte(nil), to.Certificates...)
	}
	return data
}

// URL returns the connection URI of a login, to which the caller adds what is specific to the service.
func URL(scheme string, login credential.Material, to Address) url.URL {
	return url.URL{
		Scheme: scheme,
		User:   url.UserPassword(login.String(credential.KeyUsername), login.String(credential.KeyPassword)),
		Host:   net.JoinHostPort(to.Host, strconv.Itoa(to.Port)),
	}
}
