// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"bytes"
	"encoding/binary"
	"io"
	"regexp"
	"slices"
	"strings"
)

// PostgreSQL, "Message Formats": SSLRequest and the protocol version 3.0.
const (
	postgresSSLRequest = 80877103
	postgresVersion    = 196608
	// invalidAuthorization is the SQLSTATE invalid_authorization_specification.
	invalidAuthorization = "28000"
)

// sqlstate is the form of an error code.
var sqlstate = regexp.MustCompile(`^[0-9A-Z]{5}$`)

// openPostgreSQL requests TLS.
func openPostgreSQL(conn io.ReadWriter) error {
	request := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, 8), postgresSSLRequest)
	got, err := ask(conn, request, func(r io.Reader) ([]byte, error) { return readFull(r, 1) })
	if err != nil {
		return err
	}
	switch got[0] {
	case 'S':
		return nil
	case 'N':
		return &plainTextError{"speaks PostgreSQL, but has TLS turned off"}
	case 'E':
		return &busyError{"refused the connection before TLS: it may have no connection left"}
	}
	return &plainTextError{"does not speak PostgreSQL: it did not answer the request for TLS"}
}

// exchangePostgreSQL starts a session and reads the first message. With an ssl_ca_file, the server verifies a certificate during the
// handshake, but demands one only here, by pg_hba.conf.
func exchangePostgreSQL(conn io.ReadWriter, user string) (answer, error) {
	body := binary.BigEndian.AppendUint32(nil, postgresVersion)
	for _, text := range []string{"user", user, "database", "postgres", "application_name", "rekey"} {
		body = append(append(body, strings.ReplaceAll(text, "\x00", "")...), 0)
	}
	body = append(body, 0)
	request := append(binary.BigEndian.AppendUint32(nil, uint32(len(body)+4)), body...) //nolint:gosec // a name in a certificate is short
	got, err := ask(conn, request, readPostgreSQL)
	if err == nil {
		_, _ = conn.Write([]byte{'X', 0, 0, 0, 4}) // Terminate; a server that has closed the connection knows
	}
	return got, err
}

// readPostgreSQL reads the first message of a server.
func readPostgreSQL(r io.Reader) (answer, error) {
	head, err := readFull(r, 5)
	if err != nil {
		return answer{}, err
	}
	body, err := readFull(r, int(binary.BigEndian.Uint32(head[1:]))-4)
	if err != nil {
		return answer{}, err
	}
	switch head[0] {
	case 'R', 'v':
		return answer{ReplyWelcome, "completed the handshake and continued with the login"}, nil
	case 'E':
		return judgePostgreSQL(body), nil
	}
	return answer{}, &protocolError{"completed the handshake, but does not answer in PostgreSQL's protocol"}
}

// settled are the English messages with SQLSTATE 28000 of a server that has accepted the handshake and refuses the login for
// another reason.
var settled = []string{"no pg_hba.conf entry", "pg_hba.conf rejects", "role \""}

// judgePostgreSQL judges an ErrorResponse. Only the text shows that a certificate is missing, and servers translate it: an unknown
// text with that SQLSTATE is unclear.
func judgePostgreSQL(body []byte) answer {
	fields := map[byte]string{}
	for field := range bytes.SplitSeq(body, []byte{0}) {
		if len(field) > 1 {
			fields[field[0]] = string(field[1:])
		}
	}
	note := "answered with an error"
	if sqlstate.MatchString(fields['C']) {
		note = "answered with SQLSTATE " + fields['C']
	}
	switch {
	case fields['C'] != invalidAuthorization:
	case strings.Contains(fields['M'], "requires a valid client certificate"):
		return answer{ReplyNoCertificate, note + ", because it requires a client certificate"}
	case !slices.ContainsFunc(settled, func(start string) bool { return strings.HasPrefix(fields['M'], start) }):
		return answer{ReplyUnclear, note + ", which may be about the client certificate"}
	}
	return answer{ReplyWelcome, note}
}
