// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/rekey/rekey/internal/credential"
)

// Visit is everything that JudgeClient may know about a client that connected to a server of rekey: plain values. The server
// requests a client certificate and names no authorities: many clients present nothing to a server that names others.
type Visit struct {
	Now time.Time

	Phase Phase
	End   End
	Alert Alert
	// Note is what was seen, as the rest of a sentence about the client; empty if End and Alert say it all.
	Note string

	// Client is the chain that the client presented, leaf first; nil for none. Record it in VerifyConnection, which is called even
	// if the handshake fails later. Anchors are the trust anchors for it.
	Client, Anchors []*x509.Certificate
	// Server is the server's own chain, leaf first, ServerAnchors are the trust anchors that clients should have, and ServerName is
	// the name that the client requested; empty if it did not name one.
	Server, ServerAnchors []*x509.Certificate
	ServerName            string
}

// JudgeClient returns the verdict about a client. It is pure.
func JudgeClient(v Visit) Verdict {
	if v.End != EndNone {
		return v.failure()
	}
	if len(v.Client) == 0 {
		return Verdict{Outcome: credential.Rejected, Causes: []Cause{ClientCertificateMissing}, Detail: "presented no certificate"}
	}
	if found := clientSide.examine(v.Client, v.Anchors, v.Now); len(found) > 0 {
		causes := causesOf(found)
		if soon(found, v.Now) {
			causes = append(causes, ClockSkew)
		}
		return Verdict{Outcome: credential.Rejected, Causes: causes, Detail: join(found, causes)}
	}
	return Verdict{Outcome: credential.Accepted}
}

// failure judges a handshake that did not complete: the client refused the server, or does not speak its protocol.
func (v Visit) failure() Verdict {
	seen := Attempt{Phase: v.Phase, End: v.End, Alert: v.Alert, Note: v.Note}.evidence()
	verdict := func(outcome credential.Answer, stage Stage, causes ...Cause) Verdict {
		detail := seen
		if known := join(v.serverFindings(), causes); known != "" {
			detail = fmt.Sprintf("%s: %s", seen, known)
		}
		return Verdict{Outcome: outcome, Causes: causes, Stage: stage, Detail: detail}
	}
	switch {
	case v.End == EndTimeOut:
		return verdict(credential.Unknown, StageTimeOut, Unreachable)
	case v.End == EndClosed && v.Phase <= PhaseHello:
		return verdict(credential.Unknown, StageReset, Unreachable, ProtocolMismatch)
	case v.End == EndClosed:
		return verdict(credential.Unknown, StageReset, append(v.serverCauses(), Unreachable)...)
	case v.End == EndProtocol && len(v.Client) > 0:
		// The client does not have the key of the certificate that it presented, or the key is of a kind that is not supported.
		return verdict(credential.Rejected, "", ClientRefused)
	case v.End == EndProtocol && v.Phase == PhaseShaking:
		// With TLS 1.3, OpenSSL sends the alert about a server in plain text, where only an encrypted one is allowed.
		return verdict(credential.Unknown, "", append(v.serverCauses(), ProtocolMismatch, ClientRefused)...)
	case v.End != EndAlert, v.Alert.aboutProtocol(), v.Phase <= PhaseHello:
		return verdict(credential.Rejected, "", ProtocolMismatch)
	}
	return verdict(credential.Rejected, "", v.serverCauses()...)
}

// serverCauses returns why the client refused the server's chain: what the alert may mean, narrowed by what is wrong with the
// chain.
func (v Visit) serverCauses() []Cause {
	wrong := causesOf(v.serverFindings())
	if v.Alert == alertUnknownCA {
		return []Cause{ServerAuthorityNotTrusted}
	}
	if v.Alert == alertCertificateExpired {
		if known := only(wrong, ServerCertificateExpired, ServerCertificateNotYetValid, ServerAuthorityExpired); len(known) > 0 {
			return known
		}
		return []Cause{ClockSkew, ServerAuthorityExpired}
	}
	if len(wrong) > 0 {
		return wrong
	}
	// Go sends bad_certificate for every cause, Java certificate_unknown.
	out := []Cause{ServerAuthorityNotTrusted}
	if v.ServerName == "" {
		out = append(out, ServerNameMismatch)
	}
	if len(v.Server) > 0 && nearItsEnds(v.Server[0], v.Now) {
		out = append(out, ClockSkew)
	}
	return out
}

// serverFindings returns what is wrong with the server's own chain.
func (v Visit) serverFindings() []finding {
	if len(v.Server) == 0 {
		return nil
	}
	if v.ServerName != "" {
		return examineServer(v.Server, v.ServerAnchors, v.ServerName, v.Now)
	}
	return serverSide.examine(v.Server, v.ServerAnchors, v.Now)
}
