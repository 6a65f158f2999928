// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"reflect"
	"strings"
	"syscall"

	"github.com/rekey/rekey/internal/netguard"
)

// plainTextError means that the peer does not speak TLS where it should.
type plainTextError struct{ note string }

func (e *plainTextError) Error() string { return e.note }

// busyError means that the server refused the connection in its own protocol, before TLS.
type busyError struct{ note string }

func (e *busyError) Error() string { return e.note }

// protocolError means that the peer sent something that its protocol does not allow.
type protocolError struct{ note string }

func (e *protocolError) Error() string { return e.note }

// errTooMuch limits what a peer may send.
var errTooMuch = &protocolError{"sent more than is read of a handshake"}

// Diagnose returns what an error of crypto/tls, or of the connection below it, shows: what ended the attempt, the peer's alert if
// it sent one, and a note; the note is empty if the end says it all. It contains no text of the peer.
func Diagnose(err error) (end End, alert Alert, note string) {
	if alert, ok := alertOf(err); ok {
		return EndAlert, alert, ""
	}
	var record tls.RecordHeaderError
	switch {
	case as[*plainTextError](err, &note):
		return EndPlainText, 0, note
	case as[*busyError](err, &note):
		return EndBusy, 0, note
	case as[*protocolError](err, &note):
		return EndProtocol, 0, note
	case errors.As(err, &record):
		return EndPlainText, 0, ""
	case timedOut(err):
		return EndTimeOut, 0, ""
	case lost(err):
		return EndClosed, 0, ""
	}
	return EndProtocol, 0, "violated the protocol, or has none in common with rekey: " + localText(err)
}

// localText returns what crypto/tls finds wrong. It quotes the peer only if a certificate cannot be parsed.
func localText(err error) string {
	text := err.Error()
	if strings.Contains(text, "failed to parse certificate") {
		return "a certificate cannot be parsed"
	}
	return printable(text)
}

func as[E error](err error, note *string) bool {
	found, ok := errors.AsType[E](err)
	if ok {
		*note = found.Error()
	}
	return ok
}

// alertOf returns the alert that the peer sent. crypto/tls exports it only over QUIC; over TCP it is an unexported number.
func alertOf(err error) (Alert, bool) {
	operation, ok := errors.AsType[*net.OpError](err)
	if !ok || operation.Op != "remote error" {
		return 0, false
	}
	if number := reflect.ValueOf(operation.Err); number.Kind() == reflect.Uint8 {
		return Alert(number.Uint()), true //nolint:gosec // it has 8 bits
	}
	return 0, false
}

func timedOut(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
		return true
	}
	network, ok := errors.AsType[net.Error](err)
	return ok && network.Timeout()
}

func lost(err error) bool {
	for _, known := range []error{io.EOF, io.ErrUnexpectedEOF, io.ErrClosedPipe, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED} {
		if errors.Is(err, known) {
			return true
		}
	}
	// Whatever else the network reports about a connection, such as a lost route; its text holds addresses.
	operation, ok := errors.AsType[*net.OpError](err)
	return ok && operation.Op != "local error"
}

// stageOf returns where dialing failed, and why, as the rest of a sentence about the endpoint.
func stageOf(err error) (Stage, string) {
	if forbidden, ok := errors.AsType[*netguard.ForbiddenError](err); ok {
		return StageForbidden, "must not be dialed: " + forbidden.Error()
	}
	if name, ok := errors.AsType[*net.DNSError](err); ok {
		if name.IsNotFound {
			return StageName, "was not found: its name does not resolve"
		}
		return StageName, "was not found: the resolver failed"
	}
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return StageRefused, "refused the connection: nothing listens on the port, or its Service has no ready endpoint"
	case timedOut(err):
		return StageTimeOut, "did not answer in time"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return StageRoute, "cannot be reached: there is no route to it"
	case errors.Is(err, syscall.ECONNRESET):
		return StageReset, "reset the connection at once"
	}
	return StageLocal, "was not dialed: this host could not open a connection"
}
