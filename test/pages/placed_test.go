// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"cmp"
	"regexp"
	"testing"
)

// places lists the placeholders in angle brackets that readers fill in.
var places = map[string]string{
	"<namespace>": "rekey-samples", "<name>": "orders", "<Kind>": "ClientIdentity", "<new>": "internal",
	"<cluster>": "5f0", "<old cluster>": "5f0", "<new cluster>": "5f1", "<version>": "4",
	"<ledger>": "orders-ledger", "<address>": "orders-db.rekey-samples:5432",
	"<namespace of Prometheus>": "default", "<its name>": "prometheus", "<key>": "team", "<value>": "web",
}

var place = regexp.MustCompile(`<[A-Za-z][A-Za-z ]*>`)

func placed(text string) string {
	return place.ReplaceAllStringFunc(text, func(found string) string { return cmp.Or(places[found], found) })
}

func TestTheseTestsFillEveryPlaceholder(t *testing.T) {
	for _, one := range snippets(t) {
		if one.language != "sh" && one.language != "sql" {
			continue
		}
		for _, command := range one.commands() {
			if reason, _ := elsewhere(command); reason != "" {
				continue
			}
			for _, found := range place.FindAllString(command, -1) {
				if places[found] == "" && found != "<host>" && found != "<port>" {
					t.Errorf("%s: %s: no test has a value for %s", one.page, command, found)
				}
			}
		}
	}
}
