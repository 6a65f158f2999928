// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/netguard"
)

// listener counts connections, and sends nothing.
func listener(t *testing.T) (port int, count func() int) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	seen := make(chan net.Conn, 100)
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			seen <- conn
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		for len(seen) > 0 {
			_ = (<-seen).Close()
		}
	})
	return l.Addr().(*net.TCPAddr).Port, func() int { return len(seen) }
}

func TestTheResolversAnswerIsJudgedAndDialedAsItIs(t *testing.T) {
	port, count := listener(t)
	cases := map[string]struct {
		host     string
		answers  []string
		loopback bool
	}{
		"a name that leads to loopback":            {"db.example.com", []string{"127.0.0.1"}, false},
		"a name that leads to metadata":            {"db.example.com", []string{"169.254.169.254"}, true},
		"one bad answer among good ones":           {"db.example.com", []string{"127.0.0.1", "169.254.169.254"}, true},
		"an answer that is not an address":         {"db.example.com", []string{"localhost"}, true},
		"an answer with its own port":              {"db.example.com", []string{"127.0.0.1:22"}, true},
		"a socket in the file system as an answer": {"db.example.com", []string{"/var/run/postgresql"}, true},
		"loopback, written as an address":          {"127.0.0.1", nil, false},
		"loopback of IPv6, written as an address":  {"::1", nil, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			b := New(Options{Dialer: &netguard.Dialer{Resolve: func(context.Context, string) ([]string, error) { return tc.answers, nil }}})
			_, err := b.Check(t.Context(), database.Server{Host: tc.host, Port: port, TLS: database.TLSDisable, AllowLoopback: tc.loopback, Admin: database.Admin{Username: "rotator"}})
			wantFault(t, err, fault.ClassPermanent, fault.AddressForbidden, "use another address")
		})
	}
	if count() != 0 {
		t.Error("a forbidden address was dialed")
	}
}

func TestANameThatDoesNotResolveIsNotAnAnswer(t *testing.T) {
	b := New(Options{Dialer: &netguard.Dialer{Resolve: nowhere}})
	_, err := b.Check(t.Context(), database.Server{Host: "db.example.com", Port: 5432, TLS: database.TLSDisable})
	wantFault(t, err, fault.ClassTransient, fault.ServerUnreachable, "db.example.com:5432", "DNS")
}

func TestAnInvalidHostIsRefused(t *testing.T) {
	for _, host := range []string{"", "/var/run/postgresql", "a,b", "a b", "user@host", `C:\socket`, "a\x00b"} {
		_, err := testEngine().Open(t.Context(), database.Server{Host: host, Port: 5432, TLS: database.TLSDisable}, database.Target{Username: "app", Strategy: database.AlternatingUsers})
		wantFault(t, err, fault.ClassPermanent, fault.AddressForbidden)
	}
	for _, port := range []int{-1, 0, 65536} {
		_, err := testEngine().Open(t.Context(), database.Server{Host: "db", Port: port, TLS: database.TLSDisable}, database.Target{Username: "app", Strategy: database.AlternatingUsers})
		wantFault(t, err, fault.ClassPermanent, fault.AddressForbidden)
	}
}

func TestNamesThatAreNeverServed(t *testing.T) {
	base := testTarget{
		Target: database.Target{Username: "orders_app", Strategy: database.AlternatingUsers}, settings: settings{Owner: "orders_owner"},
		Server: testServer{
			Server:         database.Server{Admin: database.Admin{Username: "rotator_a"}, AllowedUsernames: []string{"*"}},
			serverSettings: serverSettings{AllowedOwners: []string{"*"}},
		},
	}
	cases := map[string]struct {
		change func(*testTarget)
		want   fault.Reason
	}{
		"all is well":                              {func(*testTarget) {}, ""},
		"the superuser's name":                     {func(t *testTarget) { t.Username = "postgres" }, fault.UsernameForbidden},
		"a system name":                            {func(t *testTarget) { t.Username = "pg_monitor" }, fault.UsernameForbidden},
		"the admin is one of our logins":           {func(t *testTarget) { t.Username = "rotator" }, fault.UsernameForbidden},
		"the admin itself":                         {func(t *testTarget) { t.Username = "rotator_a" }, fault.UsernameForbidden},
		"too long":                                 {func(t *testTarget) { t.Username = strings.Repeat("x", 62) }, fault.UsernameForbidden},
		"as long as allowed":                       {func(t *testTarget) { t.Username = strings.Repeat("x", 61) }, ""},
		"a zero byte":                              {func(t *testTarget) { t.Username = "a\x00b" }, fault.UsernameForbidden},
		"the pattern does not match the logins":    {func(t *testTarget) { t.Server.AllowedUsernames = []string{"orders_app"} }, fault.UsernameForbidden},
		"the pattern matches one login only":       {func(t *testTarget) { t.Server.AllowedUsernames = []string{"orders_app", "orders_app_a"} }, fault.UsernameForbidden},
		"the pattern matches logins, not the base": {func(t *testTarget) { t.Server.AllowedUsernames = []string{"orders_app_*"} }, fault.UsernameForbidden},
		"nothing is allowed":                       {func(t *testTarget) { t.Server.AllowedUsernames = nil }, fault.UsernameForbidden},
		"no owner is allowed":                      {func(t *testTarget) { t.Server.AllowedOwners = nil }, fault.OwnerForbidden},
		"another owner is allowed":                 {func(t *testTarget) { t.Server.AllowedOwners = []string{"billing_*"} }, fault.OwnerForbidden},
		"the superuser as owner":                   {func(t *testTarget) { t.Owner = "postgres" }, fault.OwnerForbidden},
		"a system role as owner":                   {func(t *testTarget) { t.Owner = "pg_write_server_files" }, fault.OwnerForbidden},
		"the admin as owner":                       {func(t *testTarget) { t.Owner = "rotator_a" }, fault.OwnerForbidden},
		"a login of the credential as owner":       {func(t *testTarget) { t.Owner = "orders_app_b" }, fault.OwnerForbidden},
		"no owner":                                 {func(t *testTarget) { t.Owner = "" }, fault.OwnerForbidden},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			target := base
			tc.change(&target)
			_, err := allowedLogin(target, testRef(1, "a"))
			if got := fault.ReasonOf(err, ""); got != tc.want {
				t.Errorf("got %q (%v), want %q", got, err, tc.want)
			}
		})
	}
}

func TestApplicationNamesFitAndDiffer(t *testing.T) {
	seen := map[string]bool{}
	for _, name := range []string{"orders", strings.Repeat("x", 100), strings.Repeat("x", 101), strings.Repeat("x", 100) + "y"} {
		r := credential.Ref{Namespace: strings.Repeat("n", 40), Name: name}
		for _, got := range []string{applicationName(r), verifyName(r)} {
			if len(got) > maxIdentifier || seen[got] || !strings.HasPrefix(got, "rekey") {
				t.Errorf("%q is too long, or not unique", got)
			}
			seen[got] = true
		}
	}
	if diff := cmp.Diff("rekey shop/orders", applicationName(testRef(1, "a"))); diff != "" {
		t.Error(diff)
	}
}

func TestCommentsThatAreNotMarkers(t *testing.T) {
	for _, comment := range []string{"", "rekey", "rekey a/b/c", "rekey a/b/c seq=", "rekey a/b/c seq=0", "rekey a/b/c seq=-1", "rekey a/b/c seq=1 ", " rekey a/b/c seq=1",
		"rekey a/b/c seq=01", "rekey a/b/c seq=99999999999999999999", "rekey a/b/c seq=1\n", "the app's login", "rekey " + strings.Repeat("x", 600) + " seq=1"} {
		if owner, seq, _ := parseMarker(comment); owner != "" || seq != 0 {
			t.Errorf("%q was parsed as a marker of %q, %d", comment, owner, seq)
		}
	}
}
