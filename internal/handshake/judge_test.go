// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake_test

import (
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/handshake"
)

// certificates are those of the tables.
type certificates struct {
	root, other, oldRoot, intermediate                        *signed
	server, client, past, future, serverOnly, clientOnly, low *signed
	justIssued, foreign, underOld, pinned                     *signed
}

func issue(tb testing.TB) certificates {
	tb.Helper()
	var c certificates
	c.root, c.other = sign(tb, template("root", isAuthority), nil), sign(tb, template("other root", isAuthority), nil)
	c.oldRoot = sign(tb, template("old root", func(t *x509.Certificate) { isAuthority(t); t.NotAfter = now.Add(-day) }), nil)
	c.intermediate = sign(tb, template("intermediate", isAuthority), c.root)
	c.server, c.client = sign(tb, template("server", nil), c.root), sign(tb, template("app", nil), c.root)
	c.past = sign(tb, template("app", func(t *x509.Certificate) { t.NotAfter = now.Add(-10 * day) }), c.root)
	c.future = sign(tb, template("app", func(t *x509.Certificate) { t.NotBefore = now.Add(10 * day) }), c.root)
	c.serverOnly = sign(tb, template("app", func(t *x509.Certificate) { t.ExtKeyUsage = t.ExtKeyUsage[1:] }), c.root)
	c.clientOnly = sign(tb, template("app", func(t *x509.Certificate) { t.ExtKeyUsage = t.ExtKeyUsage[:1] }), c.root)
	c.low = sign(tb, template("app", nil), c.intermediate)
	c.justIssued = sign(tb, template("app", func(t *x509.Certificate) { t.NotBefore = now.Add(-time.Minute) }), c.root)
	c.foreign, c.underOld = sign(tb, template("app", nil), c.other), sign(tb, template("app", nil), c.oldRoot)
	c.pinned = sign(tb, template("self-signed", nil), nil)
	return c
}

// attempt is one in which nothing is wrong: the server accepted the client.
func (c certificates) attempt(change func(*handshake.Attempt)) handshake.Attempt {
	out := handshake.Attempt{
		Now: now, Phase: handshake.PhaseCompleted, Reply: handshake.ReplyWelcome, ServerName: "app.example.internal",
		Roots: chain(c.root), Server: chain(c.server), Requested: true, Client: chain(c.client), Anchors: chain(c.root),
	}
	if change != nil {
		change(&out)
	}
	return out
}

// refused is one in which the server sent an alert about a client's chain.
func (c certificates) refused(alert handshake.Alert, client ...*signed) handshake.Attempt {
	return c.attempt(func(a *handshake.Attempt) {
		a.Reply, a.End, a.Alert, a.Client = handshake.ReplyNone, handshake.EndAlert, alert, chain(client...)
	})
}

func TestJudgeNamesTheCause(t *testing.T) {
	c := issue(t)
	const (
		handshakeFailure, badCertificate, unsupported, revoked, expired, certificateUnknown, unknownCA = 40, 42, 43, 44, 45, 46, 48
		protocolVersion, internalError, unrecognizedName, certificateRequired, noApplication           = 70, 80, 112, 116, 120
	)
	hello := func(end handshake.End, alert handshake.Alert) handshake.Attempt {
		return handshake.Attempt{Now: now, Phase: handshake.PhaseHello, End: end, Alert: alert, ServerName: "app.example.internal", Roots: chain(c.root)}
	}
	lostClient := func(client ...*signed) handshake.Attempt {
		out := c.refused(0, client...)
		out.End = handshake.EndClosed
		return out
	}
	server := func(leaf *signed, roots *signed) handshake.Attempt {
		return c.attempt(func(a *handshake.Attempt) { a.Server, a.Roots = chain(leaf), chain(roots) })
	}
	with := func(a handshake.Attempt, change func(*handshake.Attempt)) handshake.Attempt { change(&a); return a }
	listing := func(authority *signed) func(*handshake.Attempt) {
		return func(a *handshake.Attempt) { a.AcceptableCAs = [][]byte{authority.certificate.RawSubject} }
	}
	cases := map[string]struct {
		attempt handshake.Attempt
		want    credential.Answer
		causes  []handshake.Cause
		stage   handshake.Stage
	}{
		"accepted": {c.attempt(nil), credential.Accepted, nil, ""},
		"accepted although the client's certificate has expired": {c.attempt(func(a *handshake.Attempt) { a.Client = chain(c.past) }), credential.Accepted, nil, ""},
		"accepted through an intermediate":                       {c.attempt(func(a *handshake.Attempt) { a.Client = chain(c.low, c.intermediate) }), credential.Accepted, nil, ""},
		"a pinned server":                                        {server(c.pinned, c.pinned), credential.Accepted, nil, ""},

		"the client has expired":                          {c.refused(expired, c.past), credential.Rejected, []handshake.Cause{handshake.ClientCertificateExpired}, ""},
		"the client is not valid yet, as Go reports it":   {c.refused(expired, c.future), credential.Rejected, []handshake.Cause{handshake.ClientCertificateNotYetValid}, ""},
		"the client is not valid yet, as OpenSSL does":    {c.refused(badCertificate, c.future), credential.Rejected, []handshake.Cause{handshake.ClientCertificateNotYetValid}, ""},
		"the client's authority has expired":              {with(c.refused(expired, c.underOld), func(a *handshake.Attempt) { a.Anchors = chain(c.oldRoot) }), credential.Rejected, []handshake.Cause{handshake.ClientAuthorityExpired}, ""},
		"expired for the server only":                     {c.refused(expired, c.client), credential.Rejected, []handshake.Cause{handshake.ClockSkew, handshake.ClientAuthorityExpired, handshake.ClientRefused}, ""},
		"an unknown authority":                            {c.refused(unknownCA, c.foreign), credential.Rejected, []handshake.Cause{handshake.ClientAuthorityNotTrusted, handshake.ClientRefused}, ""},
		"an unknown authority that is listed by its name": {with(c.refused(unknownCA, c.client), listing(c.root)), credential.Rejected, []handshake.Cause{handshake.ClientAuthorityNotTrusted, handshake.ClientRefused}, ""},
		"an unknown authority, as Java reports it":        {with(c.refused(certificateUnknown, c.foreign), listing(c.root)), credential.Rejected, []handshake.Cause{handshake.ClientAuthorityNotTrusted, handshake.ClientRefused}, ""},
		"a usage that is not allowed":                     {c.refused(unsupported, c.serverOnly), credential.Rejected, []handshake.Cause{handshake.ClientUsageNotAllowed}, ""},
		"a usage that is not allowed, as Go reports it":   {c.refused(badCertificate, c.serverOnly), credential.Rejected, []handshake.Cause{handshake.ClientUsageNotAllowed}, ""},
		"an unsupported certificate":                      {c.refused(unsupported, c.client), credential.Rejected, []handshake.Cause{handshake.ClientRefused}, ""},
		"a revoked certificate":                           {c.refused(revoked, c.past), credential.Rejected, []handshake.Cause{handshake.ClientRefused}, ""},
		"no usable reason":                                {c.refused(badCertificate, c.client), credential.Rejected, []handshake.Cause{handshake.ClientAuthorityNotTrusted, handshake.ClientRefused}, ""},
		"no usable reason, and the authority is listed":   {with(c.refused(badCertificate, c.client), listing(c.root)), credential.Rejected, []handshake.Cause{handshake.ClientRefused, handshake.ClientAuthorityNotTrusted}, ""},
		"no usable reason, just issued":                   {c.refused(badCertificate, c.justIssued), credential.Rejected, []handshake.Cause{handshake.ClientAuthorityNotTrusted, handshake.ClientRefused, handshake.ClockSkew}, ""},
		"two things are wrong with the client":            {with(c.refused(badCertificate, c.past), listing(c.other)), credential.Rejected, []handshake.Cause{handshake.ClientCertificateExpired, handshake.ClientAuthorityNotTrusted}, ""},

		"no certificate":                            {c.refused(certificateRequired), credential.Rejected, []handshake.Cause{handshake.ClientCertificateMissing}, ""},
		"no certificate, TLS 1.2":                   {with(c.refused(handshakeFailure), func(a *handshake.Attempt) { a.Phase = handshake.PhaseShaking }), credential.Rejected, []handshake.Cause{handshake.ClientCertificateMissing}, ""},
		"no certificate, no reason":                 {lostClient(), credential.Unknown, []handshake.Cause{handshake.ClientCertificateMissing, handshake.Unreachable}, handshake.StageReset},
		"no certificate, says the page":             {c.attempt(func(a *handshake.Attempt) { a.Client, a.Reply = nil, handshake.ReplyNoCertificate }), credential.Rejected, []handshake.Cause{handshake.ClientCertificateMissing}, ""},
		"a certificate that the page refuses":       {c.attempt(func(a *handshake.Attempt) { a.Client, a.Reply = chain(c.past), handshake.ReplyBadCertificate }), credential.Rejected, []handshake.Cause{handshake.ClientCertificateExpired}, ""},
		"an unclear page":                           {c.attempt(func(a *handshake.Attempt) { a.Reply = handshake.ReplyUnclear }), credential.Unknown, []handshake.Cause{handshake.ClientAuthorityNotTrusted, handshake.ClientRefused}, ""},
		"an unclear page for an expired client":     {c.attempt(func(a *handshake.Attempt) { a.Reply, a.Client = handshake.ReplyUnclear, chain(c.past) }), credential.Unknown, []handshake.Cause{handshake.ClientCertificateExpired}, ""},
		"an unclear page without a certificate":     {c.attempt(func(a *handshake.Attempt) { a.Reply, a.Client = handshake.ReplyUnclear, nil }), credential.Unknown, []handshake.Cause{handshake.ClientCertificateMissing, handshake.ClientRefused}, ""},
		"no certificate, for another reason":        {c.refused(internalError), credential.Unknown, []handshake.Cause{handshake.ClientCertificateMissing, handshake.ClientRefused}, ""},
		"an expired client, no reason":              {lostClient(c.past), credential.Unknown, []handshake.Cause{handshake.ClientCertificateExpired, handshake.Unreachable}, handshake.StageReset},
		"lost, and no certificate was requested":    {with(lostClient(), func(a *handshake.Attempt) { a.Requested = false }), credential.Unknown, []handshake.Cause{handshake.Unreachable}, handshake.StageReset},
		"refused, and no certificate was requested": {with(c.refused(handshakeFailure), func(a *handshake.Attempt) { a.Requested = false }), credential.Rejected, []handshake.Cause{handshake.ClientRefused}, ""},

		"valid here, expired by the server's clock": {c.attempt(func(a *handshake.Attempt) { a.Reply, a.ServerTime = handshake.ReplyBadCertificate, now.Add(60*day) }), credential.Rejected, []handshake.Cause{handshake.ClockSkew}, ""},
		"expired here, valid by the server's clock": {c.attempt(func(a *handshake.Attempt) {
			a.Reply, a.Now, a.ServerTime, a.Server, a.Roots = handshake.ReplyBadCertificate, now.Add(60*day), now, nil, nil
		}), credential.Rejected, []handshake.Cause{handshake.ClientAuthorityNotTrusted, handshake.ClientRefused, handshake.ClockSkew}, ""},
		"expired here and there": {c.attempt(func(a *handshake.Attempt) {
			a.Reply, a.ServerTime, a.Client = handshake.ReplyBadCertificate, now, chain(c.past)
		}), credential.Rejected, []handshake.Cause{handshake.ClientCertificateExpired}, ""},

		"the server has expired":                    {server(c.past, c.root), credential.Rejected, []handshake.Cause{handshake.ServerCertificateExpired}, ""},
		"the server is not valid yet":               {server(c.future, c.root), credential.Rejected, []handshake.Cause{handshake.ServerCertificateNotYetValid}, ""},
		"the server will be valid in an hour":       {with(server(c.justIssued, c.root), func(a *handshake.Attempt) { a.Now = now.Add(-time.Hour) }), credential.Rejected, []handshake.Cause{handshake.ServerCertificateNotYetValid, handshake.ClockSkew}, ""},
		"the server's authority is not trusted":     {server(c.server, c.other), credential.Rejected, []handshake.Cause{handshake.ServerAuthorityNotTrusted}, ""},
		"the server's authority has expired":        {server(c.underOld, c.oldRoot), credential.Rejected, []handshake.Cause{handshake.ServerAuthorityExpired}, ""},
		"the server's usage is not allowed":         {server(c.clientOnly, c.root), credential.Rejected, []handshake.Cause{handshake.ServerUsageNotAllowed}, ""},
		"the server is for another name":            {with(server(c.server, c.root), func(a *handshake.Attempt) { a.ServerName = "other.example.internal" }), credential.Rejected, []handshake.Cause{handshake.ServerNameMismatch}, ""},
		"everything is wrong with the server":       {with(server(c.past, c.other), func(a *handshake.Attempt) { a.ServerName = "other.example.internal" }), credential.Rejected, []handshake.Cause{handshake.ServerAuthorityNotTrusted, handshake.ServerCertificateExpired, handshake.ServerNameMismatch}, ""},
		"the server's intermediate is missing":      {server(c.low, c.root), credential.Rejected, []handshake.Cause{handshake.ServerAuthorityNotTrusted}, ""},
		"a bad server that also refused the client": {with(c.refused(certificateRequired), func(a *handshake.Attempt) { a.Server = chain(c.past) }), credential.Rejected, []handshake.Cause{handshake.ServerCertificateExpired}, ""},

		"no version in common":         {hello(handshake.EndAlert, protocolVersion), credential.Rejected, []handshake.Cause{handshake.ProtocolMismatch}, ""},
		"no ALPN in common":            {hello(handshake.EndAlert, noApplication), credential.Rejected, []handshake.Cause{handshake.ProtocolMismatch}, ""},
		"a name that is not served":    {hello(handshake.EndAlert, unrecognizedName), credential.Rejected, []handshake.Cause{handshake.ServerNameMismatch}, ""},
		"a failure before a hello":     {hello(handshake.EndAlert, handshakeFailure), credential.Rejected, []handshake.Cause{handshake.ProtocolMismatch, handshake.ServerNameMismatch}, ""},
		"plain text":                   {hello(handshake.EndPlainText, 0), credential.Rejected, []handshake.Cause{handshake.ProtocolMismatch}, ""},
		"nonsense":                     {hello(handshake.EndProtocol, 0), credential.Rejected, []handshake.Cause{handshake.ProtocolMismatch}, ""},
		"closed before a hello":        {hello(handshake.EndClosed, 0), credential.Unknown, []handshake.Cause{handshake.ProtocolMismatch, handshake.Unreachable, handshake.ServerNameMismatch}, handshake.StageReset},
		"silent":                       {hello(handshake.EndTimeOut, 0), credential.Unknown, []handshake.Cause{handshake.Unreachable, handshake.ProtocolMismatch}, handshake.StageTimeOut},
		"no connection left":           {hello(handshake.EndBusy, 0), credential.Unknown, []handshake.Cause{handshake.Unreachable}, handshake.StageRefused},
		"silent after the handshake":   {with(c.attempt(nil), func(a *handshake.Attempt) { a.Reply, a.End = handshake.ReplyNone, handshake.EndTimeOut }), credential.Unknown, []handshake.Cause{handshake.Unreachable}, handshake.StageTimeOut},
		"nonsense after the handshake": {with(c.attempt(nil), func(a *handshake.Attempt) { a.Reply, a.End = handshake.ReplyNone, handshake.EndProtocol }), credential.Rejected, []handshake.Cause{handshake.ProtocolMismatch}, ""},
		"not connected":                {handshake.Attempt{Now: now, Stage: handshake.StageRefused, Note: "refused the connection"}, credential.Unknown, []handshake.Cause{handshake.Unreachable}, handshake.StageRefused},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := handshake.Judge(tc.attempt)
			if got.Outcome != tc.want || got.Stage != tc.stage || !slices.Equal(got.Causes, tc.causes) {
				t.Errorf("got %s %v %q, want %s %v %q (%s)", got.Outcome, got.Causes, got.Stage, tc.want, tc.causes, tc.stage, got.Detail)
			}
		})
	}
}

// Whatever happens, the verdict is in the closed set, is certain only if it may be, and explains itself.
func TestEveryVerdictIsInTheClosedSet(t *testing.T) {
	c := issue(t)
	clients := [][]*x509.Certificate{nil, chain(c.client), chain(c.past), chain(c.future), chain(c.serverOnly), chain(c.foreign), chain(c.underOld), chain(c.low, c.intermediate), chain(c.justIssued)}
	servers := [][]*x509.Certificate{nil, chain(c.server), chain(c.past), chain(c.foreign)}
	count := 0
	for phase := handshake.PhaseOpening; phase <= handshake.PhaseCompleted; phase++ {
		for end := handshake.EndNone; end <= handshake.EndTimeOut; end++ {
			for reply := handshake.ReplyNone; reply <= handshake.ReplyUnclear; reply++ {
				for _, alert := range []uint8{0, 10, 40, 42, 43, 44, 45, 46, 48, 51, 70, 80, 112, 116, 120, 200} {
					if end != handshake.EndAlert && alert > 0 || end != handshake.EndNone && reply != handshake.ReplyNone {
						continue
					}
					for _, client := range clients {
						for _, server := range servers {
							count++
							checkVerdict(t, handshake.Attempt{
								Now: now, Phase: phase, End: end, Alert: handshake.Alert(alert), Reply: reply, ServerName: "app.example.internal", Roots: chain(c.root),
								Server: server, Requested: client != nil, Client: client, Anchors: chain(c.root, c.oldRoot),
							})
						}
					}
				}
			}
		}
	}
	if count < 2000 {
		t.Errorf("only %d attempts", count)
	}
}

func checkVerdict(t *testing.T, a handshake.Attempt) {
	t.Helper()
	got := handshake.Judge(a)
	known := handshake.Causes()
	for i, cause := range got.Causes {
		if !slices.Contains(known, cause) || slices.Contains(got.Causes[:i], cause) {
			t.Fatalf("%v holds a cause twice or an unknown one", got.Causes)
		}
	}
	problem := ""
	switch {
	case (got.Outcome == credential.Accepted) != (len(got.Causes) == 0):
		problem = "accepted with a cause, or neither accepted nor with a cause"
	case got.Is(handshake.Unreachable) != (got.Stage != ""):
		problem = "a stage without Unreachable, or the reverse"
	case got.Outcome == credential.Rejected && (a.End == handshake.EndClosed || a.End == handshake.EndTimeOut) && !strings.HasPrefix(string(got.Causes[0]), "Server"):
		problem = "a lost connection counts as a refusal"
	case got.Outcome == credential.Accepted && (a.End != handshake.EndNone || a.Reply != handshake.ReplyWelcome):
		problem = "accepted without an answer"
	case len(a.Client) == 0 && slices.ContainsFunc(got.Causes, func(cause handshake.Cause) bool {
		return strings.HasPrefix(string(cause), "ClientCertificate") && cause != handshake.ClientCertificateMissing
	}):
		problem = "a certificate is at fault that was not presented"
	case got.Outcome != credential.Accepted && a.End != handshake.EndNone && got.Detail == "":
		problem = "no detail"
	}
	if problem != "" {
		t.Fatalf("%s: %s %v %q %q (phase %d, end %d, alert %s, reply %d)", problem, got.Outcome, got.Causes, got.Stage, got.Detail, a.Phase, a.End, a.Alert, a.Reply)
	}
}

func TestADetailNamesCertificateAndTime(t *testing.T) {
	c := issue(t)
	cases := map[string]struct {
		attempt handshake.Attempt
		want    string
	}{
		"an expired client": {c.refused(45, c.past), `sent the alert certificate_expired (45) after the handshake: the client certificate "CN=app" expired at 2027-02-19T12:00:00Z`},
		"an expired server": {c.attempt(func(a *handshake.Attempt) { a.Server = chain(c.past) }), `the server certificate "CN=app" expired at 2027-02-19T12:00:00Z`},
		"an unlisted authority": {func() handshake.Attempt {
			a := c.refused(46, c.foreign)
			a.AcceptableCAs = [][]byte{c.root.certificate.RawSubject}
			return a
		}(), `sent the alert certificate_unknown (46) after the handshake: the authorities that the server names do not include "CN=other root"`},
		"another name": {c.attempt(func(a *handshake.Attempt) { a.ServerName = "db.example.internal" }), `the server certificate "CN=server" is not for "db.example.internal" but for ["app.example.internal" "127.0.0.1"]`},
		"lost":         {func() handshake.Attempt { a := c.refused(0, c.client); a.End = handshake.EndClosed; return a }(), "closed or reset the connection after the handshake, without an alert"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, handshake.Judge(tc.attempt).Detail); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestJudgeClientNamesTheCause(t *testing.T) {
	c := issue(t)
	visit := func(change func(*handshake.Visit)) handshake.Visit {
		out := handshake.Visit{
			Now: now, Phase: handshake.PhaseCompleted, Client: chain(c.client), Anchors: chain(c.root, c.oldRoot),
			Server: chain(c.server), ServerAnchors: chain(c.root), ServerName: "app.example.internal",
		}
		change(&out)
		return out
	}
	presents := func(client ...*signed) handshake.Visit {
		return visit(func(v *handshake.Visit) { v.Client = chain(client...) })
	}
	alert := func(alert handshake.Alert, server *signed) handshake.Visit {
		return visit(func(v *handshake.Visit) {
			v.Phase, v.End, v.Alert, v.Client, v.Server = handshake.PhaseShaking, handshake.EndAlert, alert, nil, chain(server)
		})
	}
	cases := map[string]struct {
		visit  handshake.Visit
		want   credential.Answer
		causes []handshake.Cause
	}{
		"accepted":                             {presents(c.client), credential.Accepted, nil},
		"accepted through an intermediate":     {presents(c.low, c.intermediate), credential.Accepted, nil},
		"nothing":                              {presents(), credential.Rejected, []handshake.Cause{handshake.ClientCertificateMissing}},
		"expired":                              {presents(c.past), credential.Rejected, []handshake.Cause{handshake.ClientCertificateExpired}},
		"not valid yet":                        {presents(c.future), credential.Rejected, []handshake.Cause{handshake.ClientCertificateNotYetValid}},
		"under an expired authority":           {presents(c.underOld), credential.Rejected, []handshake.Cause{handshake.ClientAuthorityExpired}},
		"foreign":                              {presents(c.foreign), credential.Rejected, []handshake.Cause{handshake.ClientAuthorityNotTrusted}},
		"for servers":                          {presents(c.serverOnly), credential.Rejected, []handshake.Cause{handshake.ClientUsageNotAllowed}},
		"without its intermediate":             {presents(c.low), credential.Rejected, []handshake.Cause{handshake.ClientAuthorityNotTrusted}},
		"it refuses our authority":             {alert(48, c.server), credential.Rejected, []handshake.Cause{handshake.ServerAuthorityNotTrusted}},
		"it refuses our certificate":           {alert(42, c.server), credential.Rejected, []handshake.Cause{handshake.ServerAuthorityNotTrusted}},
		"it refuses an expired certificate":    {alert(42, c.past), credential.Rejected, []handshake.Cause{handshake.ServerCertificateExpired}},
		"it finds a valid certificate expired": {alert(45, c.server), credential.Rejected, []handshake.Cause{handshake.ClockSkew, handshake.ServerAuthorityExpired}},
		"it refuses a certificate for clients": {alert(43, c.clientOnly), credential.Rejected, []handshake.Cause{handshake.ServerUsageNotAllowed}},
		"it names no server, and refuses": {visit(func(v *handshake.Visit) {
			v.Phase, v.End, v.Alert, v.ServerName = handshake.PhaseShaking, handshake.EndAlert, 42, ""
		}), credential.Rejected, []handshake.Cause{handshake.ServerAuthorityNotTrusted, handshake.ServerNameMismatch}},
		"it requests another name, and refuses": {visit(func(v *handshake.Visit) {
			v.Phase, v.End, v.Alert, v.ServerName = handshake.PhaseShaking, handshake.EndAlert, 42, "other.example.internal"
		}), credential.Rejected, []handshake.Cause{handshake.ServerNameMismatch}},
		"its key does not belong to its certificate": {visit(func(v *handshake.Visit) { v.Phase, v.End = handshake.PhaseShaking, handshake.EndProtocol }), credential.Rejected, []handshake.Cause{handshake.ClientRefused}},
		"its certificate cannot be parsed": {visit(func(v *handshake.Visit) {
			v.Phase, v.End, v.Client = handshake.PhaseShaking, handshake.EndProtocol, nil
		}), credential.Unknown, []handshake.Cause{handshake.ServerAuthorityNotTrusted, handshake.ProtocolMismatch, handshake.ClientRefused}},
		"it speaks an old version":                  {visit(func(v *handshake.Visit) { v.Phase, v.End, v.Client = handshake.PhaseHello, handshake.EndProtocol, nil }), credential.Rejected, []handshake.Cause{handshake.ProtocolMismatch}},
		"it closes the connection without a reason": {visit(func(v *handshake.Visit) { v.End = handshake.EndClosed }), credential.Unknown, []handshake.Cause{handshake.ServerAuthorityNotTrusted, handshake.Unreachable}},
		"it closes the connection at once":          {visit(func(v *handshake.Visit) { v.Phase, v.End = handshake.PhaseHello, handshake.EndClosed }), credential.Unknown, []handshake.Cause{handshake.Unreachable, handshake.ProtocolMismatch}},
		"it says nothing":                           {visit(func(v *handshake.Visit) { v.End = handshake.EndTimeOut }), credential.Unknown, []handshake.Cause{handshake.Unreachable}},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			got := handshake.JudgeClient(tc.visit)
			if got.Outcome != tc.want || !slices.Equal(got.Causes, tc.causes) {
				t.Errorf("got %s %v, want %s %v (%s)", got.Outcome, got.Causes, tc.want, tc.causes, got.Detail)
			}
		})
	}
}

func TestAnAuthorityIsFoundInTheListOfAcceptableOnes(t *testing.T) {
	c := issue(t)
	names := [][]byte{c.root.certificate.RawSubject}
	for name, tc := range map[string]struct {
		chain, anchors []*x509.Certificate
		want           bool
	}{
		"its issuer":                     {chain(c.client), nil, true},
		"the issuer of its intermediate": {chain(c.low, c.intermediate), nil, true},
		"an intermediate in ca.crt":      {chain(c.low), chain(c.intermediate, c.root), true},
		"the intermediate is missing":    {chain(c.low), nil, false},
		"another":                        {chain(c.foreign), chain(c.other), false},
	} {
		if got := handshake.Acceptable(names, tc.chain, tc.anchors); got != tc.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
	if fmt.Sprint(handshake.Alert(48)) != "unknown_ca (48)" || fmt.Sprint(handshake.Alert(200)) != "200" {
		t.Error("alerts have other names")
	}
}
