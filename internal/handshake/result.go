// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"time"

	"github.com/rekey/rekey/internal/credential"
)

// Cause is why an attempt was not accepted. The set is closed.
type Cause string

// The causes. "Client" and "Server" name the side whose certificate is at fault.
const (
	ClientCertificateExpired     Cause = "ClientCertificateExpired"
	ClientCertificateNotYetValid Cause = "ClientCertificateNotYetValid"
	// ClientAuthorityExpired means that a certificate above the client's has expired, possibly in the server's copy only.
	ClientAuthorityExpired Cause = "ClientAuthorityExpired"
	// ClientAuthorityNotTrusted means that the server has no trust anchor for the client's certificate, or that an intermediate
	// certificate is missing.
	ClientAuthorityNotTrusted Cause = "ClientAuthorityNotTrusted"
	ClientUsageNotAllowed     Cause = "ClientUsageNotAllowed"
	// ClientCertificateMissing means that the server requires a client certificate and none was presented.
	ClientCertificateMissing Cause = "ClientCertificateMissing"
	// ClientRefused means that the server refused the client without a usable reason.
	ClientRefused Cause = "ClientRefused"

	ServerCertificateExpired     Cause = "ServerCertificateExpired"
	ServerCertificateNotYetValid Cause = "ServerCertificateNotYetValid"
	// ServerNameMismatch means that the server has no certificate for the name.
	ServerNameMismatch        Cause = "ServerNameMismatch"
	ServerAuthorityNotTrusted Cause = "ServerAuthorityNotTrusted"
	ServerAuthorityExpired    Cause = "ServerAuthorityExpired"
	ServerUsageNotAllowed     Cause = "ServerUsageNotAllowed"

	// ProtocolMismatch means that the two sides have no protocol in common: TLS version, cipher suite, ALPN, plain text on one
	// side, or another protocol altogether.
	ProtocolMismatch Cause = "ProtocolMismatch"
	// Unreachable means that the connection failed or was lost; the Stage names where.
	Unreachable Cause = "Unreachable"
	// ClockSkew means that a certificate is valid by one side's clock and not by the other's.
	ClockSkew Cause = "ClockSkew"
)

// Causes returns all causes, in the order of the documentation.
func Causes() []Cause {
	return []Cause{
		ClientCertificateExpired, ClientCertificateNotYetValid, ClientAuthorityExpired, ClientAuthorityNotTrusted, ClientUsageNotAllowed,
		ClientCertificateMissing, ClientRefused, ServerCertificateExpired, ServerCertificateNotYetValid, ServerNameMismatch,
		ServerAuthorityNotTrusted, ServerAuthorityExpired, ServerUsageNotAllowed, ProtocolMismatch, Unreachable, ClockSkew,
	}
}

// Stage is where an Unreachable endpoint was lost.
type Stage string

// The stages.
const (
	// StageName means that the host name was not resolved.
	StageName Stage = "Name"
	// StageForbidden means that rekey must not dial the address (see netguard).
	StageForbidden Stage = "Forbidden"
	// StageRoute means that the network has no way to the address.
	StageRoute Stage = "Route"
	// StageLocal means that rekey's own host could not open a connection.
	StageLocal Stage = "Local"
	// StageRefused means that the host, or the server before TLS, refused the connection.
	StageRefused Stage = "Refused"
	// StageTimeOut means that nothing came in time.
	StageTimeOut Stage = "TimeOut"
	// StageReset means that the connection was closed or reset without an explanation.
	StageReset Stage = "Reset"
)

// Verdict is a judgment. The zero value is Unknown without a cause; no judgment returns it.
type Verdict struct {
	// Outcome is Accepted if both sides accepted each other and the protocol's first exchange shows it. It is Rejected if one
	// side refused the other and that is certain, and Unknown otherwise.
	Outcome credential.Answer
	// Causes are empty if the outcome is Accepted. Otherwise there is at least one. Several mean that they all hold, or that they
	// cannot be distinguished, most likely first.
	Causes []Cause
	// Stage is set if Unreachable is among the causes.
	Stage Stage
	// Detail explains the outcome, as the rest of a sentence about the endpoint: public data of certificates, names of alerts,
	// and status codes only.
	Detail string
}

// Is reports whether the cause is among the causes.
func (v Verdict) Is(cause Cause) bool { return slices.Contains(v.Causes, cause) }

// Result is what one attempt showed.
type Result struct {
	Verdict

	// Address is the IP address and port that was connected; empty if there was no connection.
	Address string
	// Peer is the chain that the server presented, leaf first; empty if it did not come to that.
	Peer []*x509.Certificate
	// Requested reports whether the server requested a client certificate. If it did not, Accepted proves nothing about the
	// client's certificate.
	Requested bool
	// Presented reports whether the client's certificate was presented.
	Presented bool
	// AcceptableCAs are the subjects in DER of the authorities that the server accepts for clients. Many servers send none.
	AcceptableCAs [][]byte
	// Version and Cipher are those of crypto/tls; 0 if none was agreed on.
	Version, Cipher uint16
	// ALPN is the application protocol that was agreed on; empty for none.
	ALPN string
	// Alert is the alert that the server sent; 0 for none.
	Alert Alert
	// Status is the status code of an HTTP answer; 0 for none.
	Status int
	// ServerTime is the Date of an HTTP answer; zero for none.
	ServerTime time.Time
	// At is the Time of the Endpoint.
	At time.Time
}

// VersionName returns the agreed TLS version as people write it; empty for none.
func (r Result) VersionName() string {
	if r.Version == 0 {
		return ""
	}
	return tls.VersionName(r.Version)
}
