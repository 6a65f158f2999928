// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/internal/wildcard"
)

// FuzzConstraints compares the matching of every kind of pattern with a slow and simple implementation.
func FuzzConstraints(f *testing.F) {
	for _, seed := range [][2]string{
		{"a*b*c", "a1b2c"}, {"ab*ba", "aba"}, {"**", ""}, {"*.example.internal", "a.example.internal"}, {"*", "a.b"},
		{"spiffe://a/ns/web/*", "spiffe://a/ns/web/sa/app"}, {"https://a/*", "https://a/../b"}, {"https://a/b", "https://a/b"}, {"https://a/*", "https://a%2f/b"},
	} {
		f.Add(seed[0], seed[1])
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		tryGlob(t, pattern, text)
		tryURIRule(t, pattern, text)
		tryDNS(t, pattern, text)
	})
}

func tryGlob(t *testing.T, pattern, s string) {
	t.Helper()
	parts := strings.Split(pattern, "*")
	for i := range parts {
		parts[i] = regexp.QuoteMeta(parts[i])
	}
	slow, err := regexp.Compile(`\A(?s:` + strings.Join(parts, ".*") + `)\z`)
	if err != nil || strings.ToValidUTF8(s, "") != s {
		return // regexp and wildcard differ for invalid text
	}
	if want := slow.MatchString(s); wildcard.Match(pattern, s) != want {
		t.Errorf("Match(%q, %q) is not %t", pattern, s, want)
	}
}

func tryURIRule(t *testing.T, pattern, text string) {
	t.Helper()
	rule, err := parseURIRule(pattern)
	if err != nil {
		return
	}
	uri, err := url.Parse(text)
	if err != nil || pki.CheckURI(uri) != nil || !rule.matches(uri) {
		return
	}
	// A check of the text alone must come to the same result.
	names := pki.Names{URIs: []*url.URL{uri}}.Normalize()
	got, prefix := names.URIs[0].String(), strings.TrimSuffix(pattern, "*")
	scheme, rest, _ := strings.Cut(prefix, "://")
	host, path, _ := strings.Cut(rest, "/")
	if want := strings.ToLower(scheme) + "://" + strings.ToLower(host) + "/" + path; rule.prefix && !strings.HasPrefix(got, want) {
		t.Errorf("%q matches %q", pattern, got)
	}
}

func tryDNS(t *testing.T, pattern, name string) {
	t.Helper()
	if checkDNSPattern(pattern) != nil || !matchDNS(pattern, name) {
		return
	}
	if strings.Count(pattern, ".") != strings.Count(name, ".") {
		t.Errorf("%q matches %q, of another length", pattern, name)
	}
	fixed := pattern[strings.LastIndexByte(pattern, '*')+1:]
	if !strings.HasSuffix(name, fixed) {
		t.Errorf("%q matches %q, which does not end in %q", pattern, name, fixed)
	}
}
