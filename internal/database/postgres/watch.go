// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"encoding/binary"
	"io"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
)

// authWatch records what a server requests during a login, so that rekey can explain its refusal. The driver decides;
// authWatch only observes.
type authWatch struct {
	binding bool // channel binding is required
	asked   []uint32
	offer   []byte // the SASL mechanisms, each terminated by a zero byte
	// patience is how long an answer to the password may take. challenged is called when the server has sent its challenge:
	// from then on the wait is for the password check, and not for the server.
	patience   time.Duration
	challenged func()
	// wantedCertificate is true if the server requested a client certificate in the TLS handshake.
	wantedCertificate atomic.Bool
}

// Authentication requests (PostgreSQL, "Message Formats").
const (
	authOK        = 0
	authSASL      = 10
	authSASLNext  = 11
	authSASLFinal = 12
)

func (w *authWatch) frontend(r io.Reader, conn io.Writer) *pgproto3.Frontend {
	w.asked, w.offer = nil, nil // once per address that is dialed
	return pgproto3.NewFrontend(&authReader{source: r, watch: w}, conn)
}

func (w *authWatch) saw(code uint32) bool { return slices.Contains(w.asked, code) }

// stage returns how far the login came.
func (w *authWatch) stage() stage {
	switch {
	case w.saw(authSASLFinal), w.saw(authOK):
		return stageAdmitted
	case w.saw(authSASLNext):
		return stageProven
	case len(w.asked) > 0:
		return stageAsked
	}
	return stageGreeted
}

func (w *authWatch) offers(mechanism string) bool {
	return slices.Contains(strings.Split(string(w.offer), "\x00"), mechanism)
}

// unbound reports whether the server offered SCRAM over TLS without channel binding: TLS terminates in front of it.
func (w *authWatch) unbound() bool {
	return w.binding && len(w.asked) > 0 && w.asked[0] == authSASL && w.offers("SCRAM-SHA-256") && !w.offers("SCRAM-SHA-256-PLUS")
}

// withoutPassword reports whether the server admitted the login without requesting a password.
func (w *authWatch) withoutPassword() bool { return len(w.asked) > 0 && w.asked[0] == authOK }

// insecure reports whether the server requested a method other than SCRAM, or SCRAM without channel binding.
func (w *authWatch) insecure() bool {
	if len(w.asked) == 0 || w.asked[0] == authOK {
		return false
	}
	if w.asked[0] != authSASL {
		return true
	}
	return !w.offers("SCRAM-SHA-256-PLUS") && (w.binding || !w.offers("SCRAM-SHA-256"))
}

// note records one whole message: type, and body without the length.
func (w *authWatch) note(kind byte, body []byte) {
	if kind != 'R' || len(body) < 4 {
		return
	}
	code := binary.BigEndian.Uint32(body)
	w.asked = append(w.asked, code)
	if code == authSASL {
		w.offer = append([]byte(nil), body[4:]...)
	}
	if code == authSASLNext && w.challenged != nil {
		w.challenged()
	}
}

// authReader passes on what it reads, and shows each message to the watch until the login is over.
type authReader struct {
	source io.Reader
	watch  *authWatch
	buffer []byte
	over   bool
}

// maxWatched limits how much of a message is kept, in bytes; a login needs far less.
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
			r.over = true // the login is over, or the server is not PostgreSQL
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
