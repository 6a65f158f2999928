// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/rekey/rekey/internal/credential"
)

// Phase is how far an attempt came.
type Phase int

// The phases, in order.
const (
	// PhaseDial is before there is a connection.
	PhaseDial Phase = iota
	// PhaseOpening is the plain-text part of a protocol, before TLS.
	PhaseOpening
	// PhaseHello is before the server's first message of TLS.
	PhaseHello
	// PhaseShaking is the rest of the handshake.
	PhaseShaking
	// PhaseCompleted is after the handshake, as seen by this side.
	PhaseCompleted
)

// End is what ended an attempt before there was an answer.
type End int

// The ends.
const (
	// EndNone means that nothing did: see Reply.
	EndNone End = iota
	// EndAlert means that the peer sent an alert.
	EndAlert
	// EndPlainText means that the peer does not speak TLS here.
	EndPlainText
	// EndProtocol means that the peer violated the protocol, or has nothing in common with this side.
	EndProtocol
	// EndBusy means that the server refused the connection before TLS, in its protocol.
	EndBusy
	// EndClosed means that the connection was closed or reset, without an explanation.
	EndClosed
	// EndTimeOut means that nothing came in time.
	EndTimeOut
)

// Reply is what the server's first answer after the handshake shows about the client.
type Reply int

// The replies.
const (
	// ReplyNone means that there was none.
	ReplyNone Reply = iota
	// ReplyWelcome means that the server answered as it does for a client that it accepted, or, where servers stay silent, that it
	// stayed silent.
	ReplyWelcome
	// ReplyNoCertificate means that the answer demands a client certificate.
	ReplyNoCertificate
	// ReplyBadCertificate means that the answer refuses the client certificate.
	ReplyBadCertificate
	// ReplyUnclear means that the answer may demand a client certificate, or something else.
	ReplyUnclear
)

// Attempt is everything that Judge may know about an attempt of a client: plain values.
type Attempt struct {
	// Now is the time at which certificates are judged. ServerTime is the time by the server's clock, at the same moment; zero if
	// unknown.
	Now, ServerTime time.Time

	Phase Phase
	// Stage is set in PhaseDial.
	Stage Stage
	End   End
	Alert Alert
	Reply Reply
	// Note is what was seen, as the rest of a sentence about the endpoint; empty if End, Alert and Reply say it all.
	Note string

	// ServerName is the name that the server's certificate must have, Roots are the trust anchors for it, and Server is the chain
	// that it presented, leaf first.
	ServerName    string
	Roots, Server []*x509.Certificate

	// Requested reports whether the server requested a client certificate, and AcceptableCAs are the subjects in DER that it named.
	Requested     bool
	AcceptableCAs [][]byte
	// Client is the chain that was presented, leaf first; nil for none. Anchors are the trust anchors above it, as its user has
	// them.
	Client, Anchors []*x509.Certificate
}

// recent is how close to its first or last moment a certificate must be for a wrong clock to be a likely cause.
const recent = 24 * time.Hour

// Judge returns the verdict about an attempt. It is pure.
func Judge(a Attempt) Verdict {
	if a.Phase == PhaseDial {
		return Verdict{Outcome: credential.Unknown, Causes: []Cause{Unreachable}, Stage: a.Stage, Detail: a.Note}
	}
	if len(a.Server) > 0 {
		if found := examineServer(a.Server, a.Roots, a.ServerName, a.Now); len(found) > 0 {
			causes := causesOf(found)
			if soon(found, a.Now) {
				causes = append(causes, ClockSkew)
			}
			return Verdict{Outcome: credential.Rejected, Causes: causes, Detail: join(found, causes)}
		}
	}
	switch {
	case a.End == EndNone && a.Reply == ReplyWelcome:
		return Verdict{Outcome: credential.Accepted, Detail: a.Note}
	case a.Phase <= PhaseHello:
		return a.opening()
	}
	return a.refusal()
}

// opening judges an attempt that ended before the server's first message of TLS.
func (a Attempt) opening() Verdict {
	switch a.End {
	case EndAlert:
		return a.openingAlert()
	case EndClosed:
		causes := []Cause{ProtocolMismatch, Unreachable}
		if a.Phase == PhaseHello {
			causes = append(causes, ServerNameMismatch) // Java's HttpsServer sends no alert about a name that it does not serve
		}
		return a.verdict(credential.Unknown, StageReset, causes...)
	case EndTimeOut:
		return a.verdict(credential.Unknown, StageTimeOut, Unreachable, ProtocolMismatch)
	case EndBusy:
		return a.verdict(credential.Unknown, StageRefused, Unreachable)
	case EndNone, EndPlainText, EndProtocol:
	}
	return a.verdict(credential.Rejected, "", ProtocolMismatch)
}

// openingAlert judges an alert in place of the server's first message.
func (a Attempt) openingAlert() Verdict {
	switch {
	case a.Alert == alertUnrecognizedName:
		return a.verdict(credential.Rejected, "", ServerNameMismatch)
	case a.Alert.aboutProtocol():
		return a.verdict(credential.Rejected, "", ProtocolMismatch)
	}
	outcome := credential.Rejected
	if a.Alert == alertInternalError {
		outcome = credential.Unknown
	}
	// Servers also send handshake_failure, or internal_error, for a name that they do not serve.
	return a.verdict(outcome, "", ProtocolMismatch, ServerNameMismatch)
}

// refusal judges an attempt that ended after the server's certificate was found to be in order, or before it came.
func (a Attempt) refusal() Verdict {
	switch {
	case a.End == EndTimeOut:
		return a.verdict(credential.Unknown, StageTimeOut, Unreachable)
	case a.End == EndPlainText, a.End == EndProtocol, a.End == EndAlert && a.Phase < PhaseCompleted && a.Alert.aboutProtocol():
		return a.verdict(credential.Rejected, "", ProtocolMismatch)
	}
	causes := a.clientCauses()
	switch {
	case a.End == EndClosed && len(causes) == 1 && causes[0] == ClientRefused:
		return a.verdict(credential.Unknown, StageReset, Unreachable)
	case a.End == EndClosed:
		return a.verdict(credential.Unknown, StageReset, append(causes, Unreachable)...)
	case a.Reply == ReplyUnclear, a.End == EndAlert && a.Alert == alertInternalError:
		return a.verdict(credential.Unknown, "", causes...)
	}
	return a.verdict(credential.Rejected, "", causes...)
}

// clientCauses returns why the server refused the client.
func (a Attempt) clientCauses() []Cause {
	if len(a.Client) > 0 {
		return a.chainCauses()
	}
	switch {
	case a.Reply == ReplyNoCertificate, a.End == EndAlert && a.Alert.missingCertificate(a.Requested):
		return []Cause{ClientCertificateMissing}
	case a.Requested && a.End == EndClosed:
		return []Cause{ClientCertificateMissing}
	case a.Requested:
		return []Cause{ClientCertificateMissing, ClientRefused}
	}
	return []Cause{ClientRefused}
}

// chainCauses returns why the server refused the chain that was presented: what the alert may mean, narrowed by what is wrong with
// the chain by the server's clock.
func (a Attempt) chainCauses() []Cause {
	if !a.ServerTime.IsZero() {
		there := a
		there.Now, there.ServerTime = a.ServerTime, time.Time{}
		if skewed := there.skewedFrom(a); skewed != nil {
			return skewed
		}
		a = there
	}
	wrong := causesOf(a.clientFindings())
	if a.Alert == alertUnknownCA {
		// OpenSSL also sends it for a chain that is too long, and for a missing revocation list.
		return []Cause{ClientAuthorityNotTrusted, ClientRefused}
	}
	if a.Alert == alertCertificateExpired {
		// Go sends it for a certificate that is not valid yet, too; OpenSSL for a revocation list that has expired.
		if known := only(wrong, times...); len(known) > 0 {
			return known
		}
		return []Cause{ClockSkew, ClientAuthorityExpired, ClientRefused}
	}
	if a.Alert == alertUnsupportedCertificate {
		if known := only(wrong, ClientUsageNotAllowed); len(known) > 0 {
			return known
		}
		return []Cause{ClientRefused}
	}
	if a.Alert == alertCertificateRevoked {
		return []Cause{ClientRefused}
	}
	if len(wrong) > 0 && a.unlisted() {
		return append(wrong, ClientAuthorityNotTrusted)
	}
	if len(wrong) > 0 {
		return wrong
	}
	return a.withoutFinding()
}

// times are the causes that depend on a clock.
var times = []Cause{ClientCertificateExpired, ClientCertificateNotYetValid, ClientAuthorityExpired}

// skewedFrom returns the causes if the chain is valid by one clock and not by the other; nil if it makes no difference. The
// receiver has the server's clock.
func (a Attempt) skewedFrom(here Attempt) []Cause {
	by := func(attempt Attempt) []Cause { return only(causesOf(attempt.clientFindings()), times...) }
	mine, theirs := by(here), by(a)
	switch {
	case len(mine) == 0 && len(theirs) > 0:
		return []Cause{ClockSkew}
	case len(mine) > 0 && len(theirs) == 0:
		return append(only(a.chainCauses(), ClientAuthorityNotTrusted, ClientUsageNotAllowed, ClientRefused), ClockSkew)
	}
	return nil
}

// withoutFinding returns the causes of a refusal without a usable reason, of a chain in which nothing is wrong.
func (a Attempt) withoutFinding() []Cause {
	out := []Cause{ClientAuthorityNotTrusted, ClientRefused}
	if Acceptable(a.AcceptableCAs, a.Client, a.Anchors) {
		out = []Cause{ClientRefused, ClientAuthorityNotTrusted}
	}
	if nearItsEnds(a.Client[0], a.Now) {
		out = append(out, ClockSkew)
	}
	return out
}

// unlisted reports whether the server named the authorities that it accepts, and not the client's.
func (a Attempt) unlisted() bool {
	return len(a.AcceptableCAs) > 0 && !Acceptable(a.AcceptableCAs, a.Client, a.Anchors)
}

// nearItsEnds reports whether a certificate has just become valid or is about to expire, so that a wrong clock matters.
func nearItsEnds(certificate *x509.Certificate, at time.Time) bool {
	return at.Sub(certificate.NotBefore) < recent || certificate.NotAfter.Sub(at) < recent
}

// clientFindings returns what is wrong with the chain that was presented, as far as this side can know: whether the server trusts
// the authority, it cannot.
func (a Attempt) clientFindings() []finding {
	anchors := a.Anchors
	if len(anchors) == 0 {
		anchors = a.Client[1:]
	}
	return without(clientSide.examine(a.Client, anchors, a.Now), ClientAuthorityNotTrusted)
}

// only returns those of the causes that are among the wanted ones.
func only(causes []Cause, wanted ...Cause) []Cause {
	return slices.DeleteFunc(slices.Clone(causes), func(c Cause) bool { return !slices.Contains(wanted, c) })
}

// verdict adds the explanation.
func (a Attempt) verdict(outcome credential.Answer, stage Stage, causes ...Cause) Verdict {
	detail := a.evidence()
	if len(a.Client) > 0 && len(a.Server) > 0 {
		found := a.clientFindings()
		if a.unlisted() {
			found = append(found, finding{
				cause: ClientAuthorityNotTrusted,
				text:  fmt.Sprintf("the authorities that the server names do not include %q", shortName(a.Client[0].Issuer.String())),
			})
		}
		if known := join(found, causes); known != "" {
			detail += ": " + known
		}
	}
	return Verdict{Outcome: outcome, Causes: causes, Stage: stage, Detail: detail}
}

// evidence returns what was seen, as the rest of a sentence about the endpoint.
func (a Attempt) evidence() string {
	if a.Note != "" {
		return a.Note
	}
	when := map[Phase]string{PhaseOpening: "before TLS", PhaseHello: "in place of its first TLS message", PhaseShaking: "during the handshake", PhaseCompleted: "after the handshake"}[a.Phase]
	switch a.End {
	case EndAlert:
		return fmt.Sprintf("sent the alert %s %s", a.Alert, when)
	case EndClosed:
		return fmt.Sprintf("closed or reset the connection %s, without an alert", when)
	case EndTimeOut:
		return fmt.Sprintf("sent nothing %s in time", when)
	case EndPlainText:
		return fmt.Sprintf("does not speak TLS %s", when)
	case EndProtocol:
		return fmt.Sprintf("violated the protocol %s", when)
	case EndBusy:
		return fmt.Sprintf("refused the connection %s", when)
	case EndNone:
	}
	return ""
}
