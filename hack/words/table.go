// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	_ "embed"
	"fmt"
	"path"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed words.yaml
var words []byte

// table is words.yaml.
type table struct {
	Skip    []exemption `json:"skip"`
	Allow   []exemption `json:"allow"`
	Phrases []phrase    `json:"phrases"`
}

// exemption is a place that is not checked, with the reason.
type exemption struct {
	Path string `json:"path,omitempty"` // a file, a folder or a pattern of path.Match; empty is everywhere
	Text string `json:"text,omitempty"` // the found text or more of its line; empty is the whole file
	Why  string `json:"why"`
}

// phrase is an expression that the tree does not use. The expression ignores case, matches whole words, and matches a line break
// where it has a space.
type phrase struct {
	Find   string   `json:"find"`
	Write  string   `json:"write"`
	Except []string `json:"except,omitempty"` // expressions that allow the phrase where they match around it
	In     string   `json:"in,omitempty"`     // comment, text or name; empty is everywhere
	Hit    string   `json:"hit"`
	Miss   string   `json:"miss"`

	find   *regexp.Regexp
	except []*regexp.Regexp
}

// load returns the table with its expressions compiled.
func load() (*table, error) {
	var t table
	if err := yaml.UnmarshalStrict(words, &t); err != nil {
		return nil, fmt.Errorf("reading words.yaml: %w", err)
	}
	for i := range t.Phrases {
		p := &t.Phrases[i]
		var err error
		if p.find, err = regexp.Compile(`(?i)\b(?:` + p.Find + `)(?:\b|$)`); err != nil {
			return nil, fmt.Errorf("words.yaml: %q: %w", p.Find, err)
		}
		for _, text := range p.Except {
			except, err := regexp.Compile(`(?i)` + text)
			if err != nil {
				return nil, fmt.Errorf("words.yaml: exception %q of %q: %w", text, p.Find, err)
			}
			p.except = append(p.except, except)
		}
	}
	for _, e := range append(t.Skip, t.Allow...) {
		if e.Why == "" {
			return nil, fmt.Errorf("words.yaml: the exemption of %q %q needs a reason", e.Path, e.Text)
		}
	}
	return &t, nil
}

// skips reports whether the whole file is exempt.
func (t *table) skips(file string) bool {
	for _, e := range t.Skip {
		if e.covers(file) {
			return true
		}
	}
	return false
}

// allows reports whether a finding is exempt: line is the text around it.
func (t *table) allows(file, line string) bool {
	for _, e := range t.Allow {
		if e.covers(file) && strings.Contains(line, e.Text) {
			return true
		}
	}
	return false
}

func (e exemption) covers(file string) bool {
	if e.Path == "" || below(file, []string{e.Path}) || strings.Contains(file, "/"+e.Path+"/") {
		return true
	}
	matched, err := path.Match(e.Path, file)
	return err == nil && matched
}
