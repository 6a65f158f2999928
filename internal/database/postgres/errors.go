// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"syscall"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/rekey/rekey/internal/netguard"
	"github.com/rekey/rekey/internal/pki"
)

// This file is the only one that knows SQLSTATEs (PostgreSQL, "Error Codes") and the errors of TLS and net. Texts of the
// server or the driver are never passed on, because an error may quote the statement that failed. Only the SQLSTATE, the
// place and the next step are.

// kind is the way in which a call failed.
type kind int

const (
	failedNetwork     kind = iota // no connection, or it broke
	failedTimeout                 // no answer in time
	failedSilent                  // no answer to an attempt just before, and another attempt is in progress
	failedServer                  // the server refused; code is the SQLSTATE
	failedName                    // the host name does not resolve
	failedAddress                 // the address must not be dialed; text holds the reason
	failedTLS                     // the server does not offer TLS
	failedCertificate             // the server's certificate is not trusted; text holds the reason
	failedHandshake               // the TLS handshake failed, but not because of the certificate
	failedMethod                  // the server requests the password by an unsafe method
	failedUnbound                 // SCRAM is offered, but without a binding to the TLS channel; or the binding did not match
	failedBinding                 // channel binding is not defined for the server's certificate; text names its signature
	failedTrust                   // the server does not request a password
	failedImpostor                // the server does not know the password's verifier
	failedLocally                 // this process could not make the attempt
	failedDriver                  // the server was reached, but the driver gave up
	failedRefusal                 // the password was sent, and the answer took too long; text holds how long rekey waited
)

// stage is how far a login had come when it failed.
type stage int

const (
	stageUnknown  stage = iota // not a login, or not watched
	stageGreeted               // the server has not requested anything yet
	stageAsked                 // the server requested a password
	stageProven                // the proof of the password was sent
	stageAdmitted              // the password was correct
)

// failure is a classified error of the driver. It contains no text of the driver or the server.
type failure struct {
	kind kind
	code string // SQLSTATE, for failedServer
	// routine is the function in the server's source that reported the error. Unlike the text, it is not localized; often
	// empty.
	routine string
	text    string // for failedAddress, failedCertificate, failedBinding and failedRefusal
	// stage is the stage of the login; wantedCertificate, whether the server requested a client certificate in the TLS
	// handshake.
	stage             stage
	wantedCertificate bool
	// hint is another possible cause that the address suggests; often empty.
	hint string
}

// Error implements error.
func (f *failure) Error() string {
	switch f.kind {
	case failedTimeout:
		return "no answer in time"
	case failedSilent:
		return "the previous attempt got no answer in time"
	case failedServer:
		return "the server answered with SQLSTATE " + f.code
	case failedName:
		return "the host name cannot be resolved"
	case failedAddress, failedCertificate:
		return f.text
	case failedTLS:
		return "the server does not offer TLS"
	case failedHandshake:
		return "the TLS handshake failed"
	case failedMethod:
		return "the server does not authenticate with SCRAM-SHA-256 bound to the TLS channel"
	case failedTrust:
		return "the server did not ask for a password"
	case failedImpostor:
		return "the server could not prove that it knows the login's verifier"
	case failedLocally:
		return "the connection could not be configured"
	case failedUnbound:
		return "SCRAM-SHA-256 cannot be bound to this TLS connection"
	case failedBinding:
		return "channel binding is not defined for a certificate that is signed with " + f.text
	case failedDriver:
		return "the server was reached, but the login could not be completed"
	case failedRefusal:
		return "the password was not answered within " + f.text
	case failedNetwork:
	}
	return "there is no connection"
}

// refused reports whether the server checked the password and refused it.
func (f *failure) refused() bool { return f.kind == failedServer && f.code == "28P01" }

// final reports whether the answer concerns this login or this database, and not the server's current state. The catalog
// decides whether the refusal is final.
func (f *failure) final() bool {
	return f.kind == failedServer && slices.Contains([]string{"28P01", "28000", "3D000", "42501", "53300", "55000"}, f.code)
}

// noEntry reports whether the login was refused, or may have been, because of the database that it requested.
func (f *failure) noEntry() bool {
	return f.kind == failedServer && (f.code == "3D000" || f.code == "42501" || f.code == "55000" || f.code == "28000" && f.stage == stageGreeted)
}

// barred reports whether the server refuses that name, regardless of the password.
func (f *failure) barred() bool { return f.kind == failedServer && f.code == "28000" }

// diagnose classifies an error of the driver. watch is nil if the login had finished before.
func diagnose(err error, watch *authWatch) *failure {
	if own, ok := errors.AsType[*failure](err); ok {
		return own
	}
	f := diagnoseAny(err, watch)
	if watch != nil {
		f.stage, f.wantedCertificate = watch.stage(), watch.wantedCertificate.Load()
		if f.kind == failedServer && f.code == "28000" && f.stage == stageProven && watch.binding {
			f.kind = failedUnbound // the server compares the bindings before the password
		}
	}
	return f
}

func diagnoseAny(err error, watch *authWatch) *failure {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		return &failure{kind: failedServer, code: sqlstate(answer.Code), routine: answer.Routine}
	}
	if watch != nil && watch.stage() == stageProven && timedOut(err) {
		return &failure{kind: failedRefusal, text: watch.patience.String()}
	}
	if f := diagnoseTransport(err); f != nil {
		return f
	}
	if watch != nil {
		switch {
		case watch.withoutPassword():
			return &failure{kind: failedTrust}
		case watch.unbound():
			return &failure{kind: failedUnbound}
		case watch.insecure():
			return &failure{kind: failedMethod}
		case watch.saw(authSASLFinal):
			return &failure{kind: failedImpostor}
		}
	}
	if watch != nil && !fromNetwork(err) {
		return &failure{kind: failedDriver}
	}
	return &failure{kind: failedNetwork}
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || pgconn.Timeout(err) || errors.As(err, &timeout) && timeout.Timeout()
}

// fromNetwork reports whether an error came from below the driver: the connection was not established, or it broke.
func fromNetwork(err error) bool {
	var network net.Error
	var number syscall.Errno
	var record tls.RecordHeaderError
	var alert tls.AlertError
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, io.ErrClosedPipe) ||
		errors.As(err, &network) || errors.As(err, &number) || errors.As(err, &record) || errors.As(err, &alert)
}

// diagnoseTransport returns what failed below PostgreSQL's protocol; nil if the error is not a known one.
func diagnoseTransport(err error) *failure {
	if forbidden, ok := errors.AsType[*netguard.ForbiddenError](err); ok {
		return &failure{kind: failedAddress, text: forbidden.Error()}
	}
	if errors.Is(err, errTLSNotOffered) {
		return &failure{kind: failedTLS}
	}
	if unbound, ok := errors.AsType[*bindingError](err); ok {
		return &failure{kind: failedBinding, text: unbound.algorithm}
	}
	if errors.Is(err, errNotReady) {
		return &failure{kind: failedServer, code: "57P03"}
	}
	if timedOut(err) {
		return &failure{kind: failedTimeout}
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return &failure{kind: failedName}
	}
	if broken, ok := errors.AsType[*net.OpError](err); ok && broken.Op == "remote error" {
		return &failure{kind: failedHandshake} // a TLS alert, which comes after the handshake in TLS 1.3
	}
	if handshake, ok := errors.AsType[*handshakeError](err); ok {
		if text := certificateProblem(handshake.err); text != "" {
			return &failure{kind: failedCertificate, text: text}
		}
		if brokenOff(err) {
			return &failure{kind: failedNetwork}
		}
		return &failure{kind: failedHandshake}
	}
	return nil
}

// brokenOff reports whether the connection was closed before an answer or in the middle of it.
func brokenOff(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// certificateProblem returns what is wrong with a server's certificate, empty if something else failed. The texts of
// crypto/x509 contain names and times of the certificate, which is public.
func certificateProblem(err error) string {
	var verification *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	var hostname x509.HostnameError
	switch {
	case errors.As(err, &hostname):
		return hostname.Error()
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired && invalid.Cert != nil:
		// The library's text contains the current time: a message that changes in each reconcile causes a write in each
		// reconcile.
		return fmt.Sprintf("%s is valid from %s to %s", pki.Describe(invalid.Cert), pki.Instant(invalid.Cert.NotBefore), pki.Instant(invalid.Cert.NotAfter))
	case errors.As(err, &invalid):
		return invalid.Error()
	case errors.As(err, &authority):
		return "it is not signed by the CA that the spec names"
	case errors.As(err, &verification):
		return "it cannot be verified"
	}
	return ""
}

// sqlstate keeps a code of five capital letters and digits, and drops anything else that a server may send.
func sqlstate(code string) string {
	if len(code) != 5 {
		return "?????"
	}
	for _, c := range code {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') {
			return "?????"
		}
	}
	return code
}
