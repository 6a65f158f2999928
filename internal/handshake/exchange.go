// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto/tls"
	"fmt"
	"io"
)

// madeUpUser is the login that is used where the identity does not name one.
const madeUpUser = "rekey_handshake"

// open speaks the part of a protocol that precedes TLS.
func open(protocol Protocol, conn io.ReadWriter) error {
	switch protocol {
	case PostgreSQL:
		return openPostgreSQL(conn)
	case MySQL:
		return openMySQL(conn)
	case TLS, HTTPS:
	}
	return nil
}

// answer is what the first exchange of a protocol shows.
type answer struct {
	reply Reply
	note  string
}

// exchange makes the protocol's first exchange after the handshake, and records its answer.
func (s *session) exchange(conn *tls.Conn) error {
	var got answer
	var err error
	switch s.endpoint.Protocol {
	case TLS:
		got = answer{ReplyWelcome, "completed the handshake and kept the connection open"}
	case HTTPS:
		got, err = s.exchangeHTTP(conn)
	case PostgreSQL:
		got, err = exchangePostgreSQL(s.withFirst(conn), s.user())
	case MySQL:
		got, err = exchangeMySQL(s.withFirst(conn))
	}
	if err != nil {
		return err
	}
	s.attempt.Reply, s.attempt.Note = got.reply, got.note
	return nil
}

// user is the login of the first exchange with PostgreSQL: the one that a client certificate stands for (PostgreSQL, "Certificate
// Authentication").
func (s *session) user() string {
	if len(s.attempt.Client) > 0 && s.attempt.Client[0].Subject.CommonName != "" {
		return s.attempt.Client[0].Subject.CommonName
	}
	return madeUpUser
}

// withFirst returns the connection with what was read of it already.
func (s *session) withFirst(conn io.ReadWriter) io.ReadWriter {
	return &resumed{Writer: conn, first: s.first, Reader: conn}
}

// resumed is a connection of which some bytes were read already.
type resumed struct {
	io.Writer
	io.Reader

	first []byte
}

// Read implements io.Reader.
func (r *resumed) Read(p []byte) (int, error) {
	if len(r.first) > 0 {
		n := copy(p, r.first)
		r.first = r.first[n:]
		return n, nil
	}
	return r.Reader.Read(p)
}

// ask writes a request and reads the answer, which can explain why the request was not accepted: a server that has refused the
// client closes the connection.
func ask[T any](conn io.ReadWriter, request []byte, read func(io.Reader) (T, error)) (T, error) {
	_, wrote := conn.Write(request)
	got, err := read(conn)
	if err != nil && wrote != nil && lost(err) {
		return got, wrote
	}
	return got, err
}

// readFull reads exactly n bytes, at most 64 KiB.
func readFull(r io.Reader, n int) ([]byte, error) {
	const most = 64 << 10
	if n < 0 || n > most {
		return nil, &protocolError{fmt.Sprintf("announced a message of %d bytes, more than is read", n)}
	}
	out := make([]byte, n)
	_, err := io.ReadFull(r, out)
	return out, err
}
