// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca_test

import (
	"net"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/issuer/ca"
	"github.com/rekey/rekey/internal/issuer/issuertest"
	"github.com/rekey/rekey/internal/pki"
)

func TestValidateConstraintsNamesTheBadPattern(t *testing.T) {
	if err := ca.ValidateConstraints(constraints()); err != nil {
		t.Fatal(err)
	}
	if err := ca.ValidateConstraints(ca.Constraints{}); err != nil {
		t.Errorf("constraints that allow nothing: %v", err)
	}
	for name, tc := range map[string]struct {
		constraints ca.Constraints
		want        string
	}{
		"negative lifetime":        {ca.Constraints{MaxLifetime: -1}, "maxLifetime -1ns is negative"},
		"empty common name":        {ca.Constraints{CommonNames: []string{""}}, "empty pattern"},
		"empty organization":       {ca.Constraints{Organizations: []string{""}}, "empty pattern"},
		"part of a label":          {ca.Constraints{DNSNames: []string{"db-*.example"}}, `constraints.dnsNames: "db-*.example" has the label "db-*", but * matches only a whole label`},
		"two stars":                {ca.Constraints{DNSNames: []string{"**.example"}}, `"**"`},
		"empty DNS name":           {ca.Constraints{DNSNames: []string{""}}, "is empty"},
		"a trailing dot":           {ca.Constraints{DNSNames: []string{"example."}}, "label that is empty"},
		"star inside of a path":    {ca.Constraints{URIs: []string{"spiffe://a/*/b"}}, "only allowed as the rest of the path, as in"},
		"star in a segment":        {ca.Constraints{URIs: []string{"spiffe://a/b*"}}, "only allowed as the rest of the path, as in"},
		"star in the host":         {ca.Constraints{URIs: []string{"spiffe://*.a/b/*"}}, "only allowed as the rest of the path, as in"},
		"star as the host":         {ca.Constraints{URIs: []string{"spiffe://*"}}, "is not absolute"},
		"star in the query":        {ca.Constraints{URIs: []string{"https://a/b?c=/*"}}, "rest of the path of a URI with a host"},
		"no scheme":                {ca.Constraints{URIs: []string{"a/b/*"}}, "is not absolute"},
		"dots in the path":         {ca.Constraints{URIs: []string{"https://a/../*"}}, "path segment"},
		"an address for a network": {ca.Constraints{IPRanges: []string{"10.0.0.1"}}, `"10.0.0.1" is not a network`},
		"bits behind the length":   {ca.Constraints{IPRanges: []string{"10.0.0.1/8"}}, "write 10.0.0.0/8"},
		"IPv4 written as IPv6":     {ca.Constraints{IPRanges: []string{"::ffff:10.0.0.0/104"}}, "is not a network"},
		"a mailbox for a domain":   {ca.Constraints{EmailDomains: []string{"a@example.com"}}, "not an exact domain"},
		"a wildcard mail domain":   {ca.Constraints{EmailDomains: []string{"*.example.com"}}, "not an exact domain"},
		"unknown usage":            {ca.Constraints{Usages: []issuer.Usage{"CodeSigning"}}, `"CodeSigning" is neither ClientAuth nor ServerAuth`},
	} {
		t.Run(name, func(t *testing.T) {
			err := ca.ValidateConstraints(tc.constraints)
			wantFault(t, err, fault.AuthorityInvalid, tc.want)
			if _, err := ca.New(nil, tc.constraints); err == nil {
				t.Error("New accepts them")
			}
		})
	}
}

// verdict issues one certificate under constraints and returns the error.
func verdict(t *testing.T, authority *ca.Authority, c ca.Constraints, names issuer.Names, usages ...issuer.Usage) error {
	t.Helper()
	if c.Usages == nil {
		c.Usages = []issuer.Usage{issuer.ClientAuth, issuer.ServerAuth}
	}
	signer, err := ca.New(authority, c)
	if err != nil {
		t.Fatal(err)
	}
	if len(usages) == 0 {
		usages = []issuer.Usage{issuer.ClientAuth}
	}
	csr, err := pki.NewRequest(clientKey(t), pki.Names{CommonName: "other"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = signer.Issue(t.Context(), issuer.Request{ID: t.Name(), CSR: csr, Names: names, Usages: usages, Lifetime: time.Hour, Now: now})
	return err
}

func clientKey(tb testing.TB) credential.Sensitive {
	tb.Helper()
	return issuertest.Key(tb, pki.ECDSAP256)
}

func managed(tb testing.TB) *ca.Authority {
	tb.Helper()
	crt, key, err := ca.NewSelfSigned(ca.Root{CommonName: "CA", KeyAlgorithm: issuer.ECDSAP256, Lifetime: 1000 * time.Hour}, now)
	if err != nil {
		tb.Fatal(err)
	}
	authority, err := ca.Parse(crt, key.Reveal(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return authority
}

func TestConstraintsAllowExactlyWhatTheyList(t *testing.T) {
	authority := managed(t)
	cn := func(s string) issuer.Names { return issuer.Names{CommonName: s} }
	dns := func(s ...string) issuer.Names { return issuer.Names{DNSNames: s} }
	uri := func(s ...string) issuer.Names { return issuer.Names{URIs: uris(s...)} }
	ip := func(s string) issuer.Names { return issuer.Names{IPAddresses: []net.IP{net.ParseIP(s)}} }
	mail := func(s string) issuer.Names { return issuer.Names{EmailAddresses: []string{s}} }
	org := func(s ...string) issuer.Names { return issuer.Names{CommonName: "a", Organizations: s} }
	cns := func(s ...string) ca.Constraints { return ca.Constraints{CommonNames: s} }
	dnss := func(s ...string) ca.Constraints { return ca.Constraints{DNSNames: s} }
	uriss := func(s ...string) ca.Constraints { return ca.Constraints{URIs: s} }
	ips := func(s ...string) ca.Constraints { return ca.Constraints{IPRanges: s} }
	mails := func(s ...string) ca.Constraints { return ca.Constraints{EmailDomains: s} }
	orgs := func(s ...string) ca.Constraints { return ca.Constraints{CommonNames: []string{"*"}, Organizations: s} }
	for name, tc := range map[string]struct {
		constraints ca.Constraints
		names       issuer.Names
		want        string // empty: allowed
	}{
		"common name, not listed":          {dnss("a"), cn("a"), `the common name "a" is outside constraints.commonNames, which allows none`},
		"common name, exact":               {cns("a"), cn("a"), ""},
		"common name, case":                {cns("a"), cn("A"), `"A" is outside`},
		"common name, any":                 {cns("*"), cn("Any Body"), ""},
		"common name, beginning":           {cns("app-*"), cn("app-x"), ""},
		"common name, empty run":           {cns("app-*"), cn("app-"), ""},
		"common name, other beginning":     {cns("app-*", "db"), cn("xapp-x"), "allows app-*, db"},
		"common name, two runs":            {cns("a*b*c"), cn("a1b2bc"), ""},
		"common name, two runs, no middle": {cns("a*b*c"), cn("a1c"), "outside constraints.commonNames"},
		"common name, no overlap":          {cns("ab*ba"), cn("aba"), "outside constraints.commonNames"},
		"common name, a dot is not a star": {cns("a.c"), cn("abc"), "outside constraints.commonNames"},

		"organization, not listed":  {orgs(), org("system:masters"), `the organization "system:masters" is outside constraints.organizations, which allows none`},
		"organization, exact":       {orgs("A", "B"), org("B", "A"), ""},
		"organization, one of two":  {orgs("A"), org("A", "system:masters"), `"system:masters" is outside`},
		"organization, case counts": {orgs("a"), org("A"), `"A" is outside`},
		"organization, any":         {orgs("*"), org("whatever"), ""},
		"organization, beginning":   {orgs("team-*"), org("team-a"), ""},

		"DNS, not listed":               {cns("*"), dns("a.example"), `the DNS name "a.example" is outside constraints.dnsNames, which allows none`},
		"DNS, exact":                    {dnss("a.example"), dns("a.example"), ""},
		"DNS, case has no meaning":      {dnss("A.example"), dns("a.EXAMPLE"), ""},
		"DNS, one label":                {dnss("*.example.internal"), dns("a.example.internal"), ""},
		"DNS, two labels":               {dnss("*.example.internal"), dns("a.b.example.internal"), "outside constraints.dnsNames, which allows *.example.internal"},
		"DNS, no label":                 {dnss("*.example.internal"), dns("example.internal"), "outside constraints.dnsNames"},
		"DNS, a longer ending":          {dnss("*.example.internal"), dns("a.example.internal.evil.com"), "outside constraints.dnsNames"},
		"DNS, ending without a dot":     {dnss("*.example.internal"), dns("a.xexample.internal"), "outside constraints.dnsNames"},
		"DNS, star in the middle":       {dnss("a.*.svc"), dns("a.web.svc"), ""},
		"DNS, star alone":               {dnss("*"), dns("db"), ""},
		"DNS, star alone, two labels":   {dnss("*"), dns("db.web"), "outside constraints.dnsNames"},
		"DNS, wildcard within the star": {dnss("*.example.internal"), dns("*.example.internal"), ""},
		"DNS, wildcard beyond a name":   {dnss("a.example.internal"), dns("*.example.internal"), "outside constraints.dnsNames"},
		"DNS, one good and one bad":     {dnss("*.example.internal"), dns("a.example.internal", "evil.com"), `"evil.com" is outside`},

		"URI, not listed":          {cns("*"), uri("spiffe://a/b"), `the URI "spiffe://a/b" is outside constraints.uris, which allows none`},
		"URI, exact":               {uriss("spiffe://a/b"), uri("spiffe://a/b"), ""},
		"URI, deeper than exact":   {uriss("spiffe://a/b"), uri("spiffe://a/b/c"), "outside constraints.uris"},
		"URI, rest of the path":    {uriss("spiffe://a/ns/web/*"), uri("spiffe://a/ns/web/sa/app"), ""},
		"URI, other namespace":     {uriss("spiffe://a/ns/web/*"), uri("spiffe://a/ns/website/sa/app"), "outside constraints.uris, which allows spiffe://a/ns/web/*"},
		"URI, no rest":             {uriss("spiffe://a/ns/web/*"), uri("spiffe://a/ns/web"), "outside constraints.uris"},
		"URI, an empty rest":       {uriss("https://a/ns/web/*"), uri("https://a/ns/web/"), "outside constraints.uris"},
		"URI, whole trust domain":  {uriss("spiffe://a/*"), uri("spiffe://a/b"), ""},
		"URI, other trust domain":  {uriss("spiffe://a/*"), uri("spiffe://a.evil/b"), "outside constraints.uris"},
		"URI, other scheme":        {uriss("spiffe://a/*"), uri("https://a/b"), "outside constraints.uris"},
		"URI, other port":          {uriss("https://a/*"), uri("https://a:8443/b"), "outside constraints.uris"},
		"URI, a query":             {uriss("https://a/*"), uri("https://a/b?c"), "outside constraints.uris"},
		"URI, a fragment":          {uriss("https://a/*"), uri("https://a/b#c"), "outside constraints.uris"},
		"URI, case of the host":    {uriss("https://A/*"), uri("HTTPS://a/b"), ""},
		"URI, case of the path":    {uriss("https://a/b/*"), uri("https://a/B/c"), "outside constraints.uris"},
		"URI, opaque":              {uriss("urn:uuid:1"), uri("urn:uuid:1"), ""},
		"URI, another opaque":      {uriss("urn:uuid:1"), uri("urn:uuid:12"), "outside constraints.uris"},
		"URI, out through dots":    {uriss("https://a/b/*"), uri("https://a/b/../c"), "path segment \"..\""},
		"SPIFFE ID, trailing /":    {uriss("spiffe://a/*"), uri("spiffe://a/b/"), `"spiffe://a/b/" is not a SPIFFE ID`},
		"SPIFFE ID, empty segment": {uriss("spiffe://a/*"), uri("spiffe://a/b//c"), "is not a SPIFFE ID"},
		"SPIFFE ID, a port":        {uriss("spiffe://a:1/*"), uri("spiffe://a:1/b"), "is not a SPIFFE ID"},
		"SPIFFE ID, a query":       {uriss("spiffe://a/b?c"), uri("spiffe://a/b?c"), "is not a SPIFFE ID"},
		"SPIFFE ID, two of them":   {uriss("spiffe://a/*"), uri("spiffe://a/b", "spiffe://a/c"), "must have no other URI"},
		"SPIFFE ID, and a web URI": {uriss("spiffe://a/*", "https://a/*"), uri("spiffe://a/b", "https://a/c"), "must have no other URI"},

		"IP, not listed":         {cns("*"), ip("10.0.0.1"), "the IP address 10.0.0.1 is outside constraints.ipRanges, which allows none"},
		"IP, inside":             {ips("10.0.0.0/8"), ip("10.255.0.1"), ""},
		"IP, outside":            {ips("10.0.0.0/8"), ip("11.0.0.1"), "outside constraints.ipRanges, which allows 10.0.0.0/8"},
		"IP, IPv6 inside":        {ips("fd00::/8"), ip("fd12::1"), ""},
		"IP, all of IPv6 is not": {ips("::/0"), ip("10.0.0.1"), "outside constraints.ipRanges"},
		"IP, one address":        {ips("10.0.0.1/32"), ip("10.0.0.1"), ""},

		"mail, not listed":       {cns("*"), mail("a@example.com"), `the email address "a@example.com" is outside constraints.emailDomains, which allows none`},
		"mail, inside":           {mails("example.com"), mail("a@Example.COM"), ""},
		"mail, a domain below":   {mails("example.com"), mail("a@sub.example.com"), "outside constraints.emailDomains"},
		"mail, a longer ending":  {mails("example.com"), mail("a@notexample.com"), "outside constraints.emailDomains"},
		"nothing is allowed":     {ca.Constraints{}, cn("a"), "outside constraints.commonNames"},
		"a usage that is denied": {ca.Constraints{CommonNames: []string{"*"}, Usages: []issuer.Usage{issuer.ServerAuth}}, cn("a"), `the usage "ClientAuth" is outside constraints.usages, which allows ServerAuth`},
	} {
		t.Run(name, func(t *testing.T) {
			err := verdict(t, authority, tc.constraints, tc.names)
			if tc.want == "" {
				if err != nil {
					t.Errorf("it is refused: %v", err)
				}
				return
			}
			reason := fault.ConstraintViolated
			if tc.constraints.URIs != nil && fault.ReasonOf(err, "") == fault.IdentityInvalid {
				reason = fault.IdentityInvalid // a bad URI or SPIFFE ID, whatever the constraints are
			}
			wantFault(t, err, reason, tc.want)
		})
	}
}

func TestACommonNameDoesNotBypassTheHostNames(t *testing.T) {
	authority := managed(t)
	c := ca.Constraints{CommonNames: []string{"*"}, DNSNames: []string{"*.example.internal"}, IPRanges: []string{"10.0.0.0/8"}}
	address := []net.IP{net.IPv4(10, 0, 0, 1)}
	for name, tc := range map[string]struct {
		names issuer.Names
		usage issuer.Usage
		want  string
	}{
		"a server without DNS names":              {issuer.Names{CommonName: "bank.example.com", IPAddresses: address}, issuer.ServerAuth, "is read as its host name"},
		"a server with an underscore":             {issuer.Names{CommonName: "my_bank", IPAddresses: address}, issuer.ServerAuth, "is read as its host name"},
		"a server whose common name is allowed":   {issuer.Names{CommonName: "A.example.internal", IPAddresses: address}, issuer.ServerAuth, ""},
		"a server with a name that is not a host": {issuer.Names{CommonName: "The Bank", IPAddresses: address}, issuer.ServerAuth, ""},
		"a server with DNS names":                 {issuer.Names{CommonName: "bank", DNSNames: []string{"a.example.internal"}}, issuer.ServerAuth, ""},
		"a client, which has no host name":        {issuer.Names{CommonName: "bank.example.com"}, issuer.ClientAuth, ""},
		"a server without any alternative name":   {issuer.Names{CommonName: "a.example.internal"}, issuer.ServerAuth, "a server needs a subject alternative name"},
	} {
		t.Run(name, func(t *testing.T) {
			err := verdict(t, authority, c, tc.names, tc.usage)
			if tc.want == "" {
				if err != nil {
					t.Errorf("it is refused: %v", err)
				}
				return
			}
			wantFault(t, err, fault.ReasonOf(err, ""), tc.want)
		})
	}
}

func TestPermitJudgesTheResult(t *testing.T) {
	authority := managed(t)
	wide, err := ca.New(authority, ca.Constraints{CommonNames: []string{"*"}, Usages: []issuer.Usage{issuer.ClientAuth}})
	if err != nil {
		t.Fatal(err)
	}
	csr, err := pki.NewRequest(clientKey(t), pki.Names{CommonName: "app"})
	if err != nil {
		t.Fatal(err)
	}
	chain, err := wide.Issue(t.Context(), issuer.Request{CSR: csr, Names: issuer.Names{CommonName: "app"}, Usages: []issuer.Usage{issuer.ClientAuth}, Lifetime: time.Hour, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	certificates, err := pki.ParseCertificates(chain.Certificates)
	if err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		constraints ca.Constraints
		reason      fault.Reason
		want        string
	}{
		"its name":     {ca.Constraints{CommonNames: []string{"db"}, Usages: []issuer.Usage{issuer.ClientAuth}}, fault.ConstraintViolated, `"app" is outside`},
		"its usage":    {ca.Constraints{CommonNames: []string{"*"}, Usages: []issuer.Usage{issuer.ServerAuth}}, fault.ConstraintViolated, `"ClientAuth" is outside`},
		"its lifetime": {ca.Constraints{CommonNames: []string{"*"}, Usages: []issuer.Usage{issuer.ClientAuth}, MaxLifetime: time.Minute}, fault.LifetimeTooLong, "the lifetime 1h0m0s is longer than constraints.maxLifetime of the authority, 1m0s"},
	} {
		t.Run(name, func(t *testing.T) {
			narrow, err := ca.New(authority, tc.constraints)
			if err != nil {
				t.Fatal(err)
			}
			wantFault(t, narrow.Permit(certificates[0]), tc.reason, tc.want)
		})
	}
	if err := wide.Permit(certificates[0]); err != nil {
		t.Errorf("what was issued is not permitted: %v", err)
	}
}

func TestConstraintsAreNotSharedWithTheCaller(t *testing.T) {
	authority := managed(t)
	c := ca.Constraints{CommonNames: []string{"app"}, Usages: []issuer.Usage{issuer.ClientAuth}}
	signer, err := ca.New(authority, c)
	if err != nil {
		t.Fatal(err)
	}
	c.CommonNames[0] = "*"
	csr, err := pki.NewRequest(clientKey(t), pki.Names{CommonName: "root"})
	if err != nil {
		t.Fatal(err)
	}
	_, err = signer.Issue(t.Context(), issuer.Request{CSR: csr, Names: issuer.Names{CommonName: "root"}, Usages: c.Usages, Lifetime: time.Hour, Now: now})
	wantFault(t, err, fault.ConstraintViolated, "allows app")
}
