// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package ca

import (
	"errors"
	"fmt"
	"net/url"
	"strings"

	"github.com/rekey/rekey/internal/pki"
)

// matchDNS reports whether a host name matches a pattern label by label; "*" in the pattern matches exactly one label. Only "*"
// matches a wildcard in the name: each name that it covers is then allowed, too. Both are in lower case.
func matchDNS(pattern, name string) bool {
	patterns, labels := strings.Split(pattern, "."), strings.Split(name, ".")
	if len(patterns) != len(labels) {
		return false
	}
	for i, want := range patterns {
		if want != "*" && want != labels[i] {
			return false
		}
	}
	return true
}

func checkDNSPattern(pattern string) error {
	if pattern == "" {
		return errors.New("is empty")
	}
	for label := range strings.SplitSeq(pattern, ".") {
		if label == "*" {
			continue
		}
		if strings.Contains(label, "*") {
			return fmt.Errorf("has the label %q, but * matches only a whole label", label)
		}
		if err := pki.CheckDNSLabel(label); err != nil {
			return err
		}
	}
	return nil
}

// uriRule is one pattern of constraints.uris.
type uriRule struct {
	scheme, host, opaque, query, fragment string
	path                                  string
	// prefix is true if path, which ends in a slash, is only a prefix.
	prefix bool
}

func parseURIRule(pattern string) (uriRule, error) {
	text, prefix := strings.CutSuffix(pattern, "/*")
	if prefix {
		text += "/"
	}
	if strings.Contains(text, "*") {
		return uriRule{}, fmt.Errorf("%q: * is only allowed as the rest of the path, as in spiffe://example.org/ns/web/*", pattern)
	}
	uri, err := url.Parse(text)
	if err != nil {
		return uriRule{}, fmt.Errorf("%q cannot be parsed", pattern)
	}
	if err := pki.CheckURI(uri); err != nil {
		return uriRule{}, err
	}
	if prefix && (uri.Host == "" || uri.RawQuery != "" || uri.Fragment != "") {
		return uriRule{}, fmt.Errorf("%q: * is only allowed as the rest of the path of a URI with a host", pattern)
	}
	rule := ruleOf(uri)
	rule.prefix = prefix
	return rule, nil
}

func ruleOf(uri *url.URL) uriRule {
	return uriRule{
		scheme: strings.ToLower(uri.Scheme), host: strings.ToLower(uri.Host), opaque: uri.Opaque,
		path: uri.EscapedPath(), query: uri.RawQuery, fragment: uri.EscapedFragment(),
	}
}

func (r uriRule) matches(uri *url.URL) bool {
	have := ruleOf(uri)
	if r.prefix {
		if len(have.path) <= len(r.path) || !strings.HasPrefix(have.path, r.path) {
			return false
		}
		have.path, have.prefix = r.path, true
	}
	return have == r
}
