// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"encoding/binary"
	"io"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgproto3"
)

// authWatch listens to what a server asks for during a login, so that a refusal of ours can be explained. The driver
// decides; this only watches.
type authWatch struct {
	binding bool // channel binding is required
	asked   []uint32
	offer   []byte // the SASL mechanisms, each ended by a zero byte
}

// Authentication requests (PostgreSQL, "Message Formats").
const (
	authOK        = 0
	authSASL      = 10
	authSASLFinal = 12
)

func (w *authWatch) frontend(r io.Reader, conn io.Writer) *pgproto3.Frontend {
	w.asked, w.offer = nil, nil // one per address that is tried
	return pgproto3.NewFrontend(&authReader{source: r, watch: w}, conn)
}

func (w *authWatch) saw(code uint32) bool { return slices.Contains(w.asked, code) }

// withoutPassword tells that the server let somebody in without asking for a password.
func (w *authWatch) withoutPassword() bool { return len(w.asked) > 0 && w.asked[0] == authOK }

// insecure tells that the server asked for something else than SCRAM, or without a binding to the TLS channel.
func (w *authWatch) insecure() bool {
	if len(w.asked) == 0 || w.asked[0] == authOK {
		return false
	}
	if w.asked[0] != authSASL {
		return true
	}
	mechanisms := strings.Split(string(w.offer), "\x00")
	return !slices.Contains(mechanisms, "SCRAM-SHA-256-PLUS") && (w.binding || !slices.Contains(mechanisms, "SCRAM-SHA-256"))
}

// note takes one whole message: type, and body without the length.
func (w *authWatch) note(kind byte, body []byte) {
	if kind != 'R' || len(body) < 4 {
		return
	}
	code := binary.BigEndian.Uint32(body)
	w.asked = append(w.asked, code)
	if code == authSASL {
		w.offer = append([]byte(nil), body[4:]...)
	}
}

// authReader passes on what it reads, and shows each message to the watch until the login is over.
type authReader struct {
	source io.Reader
	watch  *authWatch
	buffer []byte
	over   bool
}

// maxWatched bounds what is kept of a message, in bytes; what a login needs is far smaller.
const maxWatched = 16 << 10

func (r *authReader) Read(p []byte) (int, error) {
	n, err := r.source.Read(p)
	if n > 0 && !r.over {
		r.buffer = append(r.buffer, p[:n]...)
		r.scan()
	}
	return n, err
}

func (r *authReader) scan() {
	for len(r.buffer) >= 5 && !r.over {
		kind, length := r.buffer[0], binary.BigEndian.Uint32(r.buffer[1:5])
		if length < 4 || length > maxWatched || kind != 'R' && kind != 'N' && kind != 'S' && kind != 'v' {
			r.over = true // the login is over, or this is not PostgreSQL
			break
		}
		if uint32(len(r.buffer)) < 1+length { //nolint:gosec // bounded by the driver's buffer
			return
		}
		r.watch.note(kind, r.buffer[5:1+length])
		r.buffer = r.buffer[1+length:]
	}
	if r.over {
		r.buffer = nil
	}
}
