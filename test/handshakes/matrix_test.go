// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshakes

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/handshake"
	"github.com/rekey/rekey/internal/netguard"
	"github.com/rekey/rekey/test/golden"
)

// situation is one cause, provoked.
type situation struct {
	title string
	// want is the true cause; empty if the peer must accept.
	want handshake.Cause
	// lenient lists peers that do not check this, and accept.
	lenient []string
	// endpoint changes what is dialed; nil changes nothing.
	endpoint func(*testing.T, *pki, *handshake.Endpoint)
	// run is how the peer runs, and needs selects the peers that can do so; nil means all.
	run   run
	needs func(peer) bool
	// tied means that what a client sees has other causes, too, so that the true one need not be the first.
	tied bool
}

// run is one run of a peer.
type run int

const (
	usual    run = iota
	misused      // the server presents a certificate that a server must not use
	only13       // it speaks TLS 1.3 only
	strict       // it checks revocations, and refuses names that it does not serve
	shutDown     // nothing listens
)

// presents returns a situation of the client's certificate.
func presents(title string, want handshake.Cause, which func(*pki) leaf, lenient ...string) situation {
	return situation{title: title, want: want, lenient: lenient, endpoint: func(t *testing.T, p *pki, e *handshake.Endpoint) {
		t.Helper()
		e.Identity = which(p).identity(t)
	}}
}

// skewed returns a situation in which rekey's clock is wrong.
func skewed(title string, want handshake.Cause, by time.Duration, which func(*pki) leaf) situation {
	return situation{title: title, want: want, tied: true, endpoint: func(t *testing.T, p *pki, e *handshake.Endpoint) {
		t.Helper()
		e.Identity, e.Time = which(p).identity(t), p.now.Add(by)
	}}
}

func revokes(s peer) bool { return s.revokes }
func selects(s peer) bool { return s.selects }

// situations are all causes, in the order of the page.
var situations = []situation{
	{title: "nothing is wrong"},
	presents("the client's certificate has expired", handshake.ClientCertificateExpired, func(p *pki) leaf { return p.past }),
	presents("the client's certificate is not valid yet", handshake.ClientCertificateNotYetValid, func(p *pki) leaf { return p.future }),
	// The standard Java trust manager does not look at the dates of a trust anchor (RFC 5280, section 6.1.1 (d)).
	presents("the client's authority has expired", handshake.ClientAuthorityExpired, func(p *pki) leaf { return p.underExpired }, "Java"),
	presents("the server does not trust the client's authority", handshake.ClientAuthorityNotTrusted, func(p *pki) leaf { return p.underForeign }),
	presents("the client's certificate is for servers only", handshake.ClientUsageNotAllowed, func(p *pki) leaf { return p.serverOnly }),
	{title: "the client presents no certificate", want: handshake.ClientCertificateMissing, lenient: []string{"MariaDB"}, endpoint: func(_ *testing.T, _ *pki, e *handshake.Endpoint) { e.Identity = nil }},
	{title: "the server checks revocations, and nothing is wrong", run: strict, needs: revokes},
	{title: "the client's certificate has been revoked", want: handshake.ClientRefused, run: strict, needs: revokes, tied: true, endpoint: func(t *testing.T, p *pki, e *handshake.Endpoint) {
		t.Helper()
		e.Identity = p.revoked.identity(t)
	}},
	skewed("rekey's clock is a day and a half behind, and the client's certificate has expired since", handshake.ClockSkew, -day-day/2, func(p *pki) leaf { return p.past }),
	skewed("rekey's clock is a day and a half ahead, and the client's certificate is not valid yet", handshake.ClockSkew, day+day/2, func(p *pki) leaf { return p.beginning }),
	skewed("rekey's clock is a day and a half ahead, and the client's certificate will have expired by then", "", day+day/2, func(p *pki) leaf { return p.ending }),
	{title: "the server's certificate has expired", want: handshake.ServerCertificateExpired, endpoint: func(_ *testing.T, p *pki, e *handshake.Endpoint) { e.Time = p.now.Add(200 * day) }},
	{title: "the server's certificate is not valid yet", want: handshake.ServerCertificateNotYetValid, endpoint: func(_ *testing.T, p *pki, e *handshake.Endpoint) { e.Time = p.now.Add(-200 * day) }},
	{title: "the server's certificate is for another name", want: handshake.ServerNameMismatch, endpoint: func(_ *testing.T, _ *pki, e *handshake.Endpoint) { e.ServerName = "other.example.internal" }},
	{title: "the server refuses names that it does not serve", want: handshake.ServerNameMismatch, run: strict, needs: selects, tied: true, endpoint: func(_ *testing.T, _ *pki, e *handshake.Endpoint) {
		e.ServerName = "other.example.internal"
	}},
	{title: "the client does not trust the server's authority", want: handshake.ServerAuthorityNotTrusted, endpoint: func(_ *testing.T, p *pki, e *handshake.Endpoint) {
		e.Roots = []*x509.Certificate{p.foreign.certificate}
	}},
	{title: "the server's authority has expired", want: handshake.ServerAuthorityExpired, endpoint: func(_ *testing.T, p *pki, e *handshake.Endpoint) {
		e.Roots = []*x509.Certificate{p.expiredTwin.certificate}
	}},
	{title: "the server's certificate is for clients only", want: handshake.ServerUsageNotAllowed, run: misused},
	{title: "there is no TLS version in common", want: handshake.ProtocolMismatch, run: only13},
	{title: "the endpoint speaks another protocol", want: handshake.ProtocolMismatch, endpoint: func(_ *testing.T, _ *pki, e *handshake.Endpoint) {
		if e.Protocol == handshake.PostgreSQL || e.Protocol == handshake.MySQL {
			e.Protocol = handshake.TLS
			return
		}
		e.Protocol = handshake.PostgreSQL
	}},
	{title: "nothing listens on the port", want: handshake.Unreachable, run: shutDown},
}

var versions = []uint16{tls.VersionTLS12, tls.VersionTLS13}

// matrix collects what was reported.
type matrix struct {
	mu    sync.Mutex
	cells map[string]map[uint16]map[string]handshake.Result
}

func (m *matrix) put(title string, version uint16, peer string, result handshake.Result) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cells[title] == nil {
		m.cells[title] = map[uint16]map[string]handshake.Result{}
	}
	if m.cells[title][version] == nil {
		m.cells[title][version] = map[string]handshake.Result{}
	}
	m.cells[title][version][peer] = result
}

// attempts returns how many handshakes were attempted.
func (m *matrix) attempts() int {
	count := 0
	for _, versions := range m.cells {
		for _, cells := range versions {
			count += len(cells)
		}
	}
	return count
}

func TestNoRealPeerIsReportedWithAWrongCause(t *testing.T) {
	p := newPKI(t)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusOK) }))
	t.Cleanup(backend.Close)
	seen, visited := &matrix{cells: map[string]map[uint16]map[string]handshake.Result{}}, &visits{cells: map[string]map[uint16]map[string]handshake.Verdict{}}
	t.Run("peers", func(t *testing.T) {
		for _, peer := range peers() {
			t.Run(peer.name, func(t *testing.T) {
				t.Parallel()
				peer.provokeAll(t, p, seen, backend.Listener.Addr().String())
			})
		}
		t.Run("clients", func(t *testing.T) {
			t.Parallel()
			visitAll(t, p, visited)
		})
	})
	if t.Failed() {
		return
	}
	t.Logf("%d attempts, 0 wrong causes", seen.attempts()+visited.attempts())
	if !debian12(t) {
		t.Log("docs/handshakes.md was not compared: it shows the servers and clients of Debian 12")
		return
	}
	golden.Check(t, "../../docs/handshakes.md", page(seen, visited))
}

// debian12 reports whether the tests run on the distribution whose peers the page shows.
func debian12(t *testing.T) bool {
	t.Helper()
	text := string(read(t, "/etc/os-release"))
	return strings.Contains(text, "\nID=debian\n") && strings.Contains(text, "\nVERSION_ID=\"12\"\n")
}

// provokeAll runs the peer as each situation needs it, and dials it.
func (s peer) provokeAll(t *testing.T, p *pki, seen *matrix, backend string) {
	t.Helper()
	at := place{dir: scratch(t), backend: backend}
	at.clients, at.revocations = write(t, at.dir, "clients.crt", p.clientAuthorities()), write(t, at.dir, "revocations.crl", p.revocations)
	if s.prepare != nil {
		s.prepare(t, at)
	}
	for _, as := range []run{usual, misused, only13, strict} {
		if as == only13 && s.always12 || as == strict && !s.revokes && !s.selects {
			continue
		}
		served := p.server
		if as == misused {
			served = p.clientOnly
		}
		at.only13, at.strict = as == only13, as == strict
		at.crt, at.key = write(t, at.dir, "server.crt", served.crt), write(t, at.dir, "server.key", served.key)
		at.combined = write(t, at.dir, "server.pem", slices.Concat(served.crt, served.key))
		stop := s.startOnAFreePort(t, &at)
		s.provoke(t, p, seen, as, at.address())
		stop()
	}
	s.provoke(t, p, seen, shutDown, net.JoinHostPort("127.0.0.1", closedPort(t)))
}

// startOnAFreePort starts the peer; another process can have taken a port that was free a moment ago.
func (s peer) startOnAFreePort(t *testing.T, at *place) (stop func()) {
	t.Helper()
	var err error
	for range 3 {
		at.port = freePort(t)
		if stop, err = s.run(t, *at); err == nil {
			return stop
		}
	}
	t.Fatalf("starting %s: %v", s.name, err)
	return nil
}

// provoke dials the peer in the situations of one run.
func (s peer) provoke(t *testing.T, p *pki, seen *matrix, as run, address string) {
	t.Helper()
	for _, situation := range situations {
		if situation.run != as || situation.needs != nil && !situation.needs(s) {
			continue
		}
		for _, version := range versions {
			if as == only13 && version == tls.VersionTLS13 {
				continue
			}
			result := s.attempt(t, p, situation, version, address)
			if wrong := situation.wrong(s.name, result); wrong != "" {
				t.Errorf("%s, %s: %s: %s %v (%s)", situation.title, tls.VersionName(version), wrong, result.Outcome, result.Causes, result.Detail)
			}
			if result.Version != 0 && result.Version != version {
				t.Errorf("%s: %s was agreed on instead of %s", situation.title, result.VersionName(), tls.VersionName(version))
			}
			seen.put(situation.title, version, s.name, result)
		}
	}
}

// attempt dials the peer once. It may take much longer than in production: this machine may be busy.
func (s peer) attempt(t *testing.T, p *pki, as situation, version uint16, address string) handshake.Result {
	t.Helper()
	endpoint := handshake.Endpoint{
		Address: address, ServerName: "localhost", Protocol: s.protocol, Roots: []*x509.Certificate{p.trusted.certificate},
		Identity: p.client.identity(t), MaxVersion: version, Time: p.now,
	}
	if as.endpoint != nil {
		as.endpoint(t, p, &endpoint)
	}
	dialer := handshake.Dialer{Network: &netguard.Dialer{}, Rules: netguard.Rules{AllowLoopback: true}, Timeout: time.Minute}
	result, err := dialer.Dial(t.Context(), endpoint)
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// vague are the causes that nothing excludes where a peer shows no reason, or only a vague one.
var vague = []handshake.Cause{
	handshake.ClientAuthorityNotTrusted, handshake.ClientRefused, handshake.ClockSkew, handshake.Unreachable, handshake.ProtocolMismatch,
	handshake.ClientAuthorityExpired, handshake.ServerNameMismatch, handshake.ServerAuthorityNotTrusted, handshake.ServerAuthorityExpired,
}

// wrong returns what is wrong with a result; empty if it is right, or says that it cannot know.
func (s situation) wrong(peer string, result handshake.Result) string {
	if wrong := wrongAbout(s.want, s.tied, s.want == "" || slices.Contains(s.lenient, peer), result.Verdict); wrong != "" {
		return wrong
	}
	if s.tied || !strings.HasPrefix(string(s.want), "Server") {
		return ""
	}
	// rekey judges the server's certificate itself.
	switch {
	case result.Outcome != credential.Rejected || len(result.Causes) != 1:
		return "what rekey sees itself is not reported as certain"
	case result.Presented:
		return "a server that is not in order learned who the client is"
	}
	return ""
}

// wrongAbout returns what is wrong with a verdict about a cause. If tied, the true cause need not be the first; if accepts, nothing
// is wrong.
func wrongAbout(want handshake.Cause, tied, accepts bool, verdict handshake.Verdict) string {
	switch {
	case accepts && verdict.Outcome == credential.Accepted && len(verdict.Causes) == 0:
		return ""
	case accepts:
		return "a handshake that works is reported as one that does not"
	case verdict.Outcome == credential.Accepted:
		return "a handshake that does not work is reported as one that does"
	case !verdict.Is(want):
		return fmt.Sprintf("the true cause %s is not reported", want)
	case verdict.Causes[0] != want && !tied && verdict.Outcome == credential.Rejected:
		return "the true cause is not the first one"
	case excess(want, verdict.Causes) != "":
		return fmt.Sprintf("the cause %s is reported, and does not hold", excess(want, verdict.Causes))
	case len(verdict.Causes) > 4:
		return "too many causes are reported"
	case verdict.Detail == "" || strings.Contains(verdict.Detail, "PRIVATE KEY"):
		return "the detail is missing or contains a key"
	}
	return ""
}

// excess returns a cause that is neither the true one nor vague; empty for none.
func excess(want handshake.Cause, causes []handshake.Cause) handshake.Cause {
	for _, cause := range causes {
		if cause != want && !slices.Contains(vague, cause) {
			return cause
		}
	}
	return ""
}
