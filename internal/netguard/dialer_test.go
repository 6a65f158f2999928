// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package netguard

import (
	"context"
	"errors"
	"testing"
)

func TestOneForbiddenAnswerRefusesTheHost(t *testing.T) {
	cases := map[string]struct {
		host    string
		answers []string
		want    bool // whether the host is refused
	}{
		"a good answer":                  {"db.example.com", []string{"10.0.0.5"}, false},
		"two good answers":               {"db.example.com", []string{"10.0.0.5", "fd12::1"}, false},
		"one bad answer among good":      {"db.example.com", []string{"10.0.0.5", "169.254.169.254"}, true},
		"an answer that is a name":       {"db.example.com", []string{"localhost"}, true},
		"an address":                     {"10.0.0.5", nil, false},
		"a forbidden address":            {"169.254.169.254", nil, true},
		"loopback, which is not allowed": {"127.0.0.1", nil, true},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			d := &Dialer{Resolve: func(context.Context, string) ([]string, error) { return tc.answers, nil }}
			_, err := d.LookupHost(t.Context(), Rules{}, tc.host)
			if _, refused := errors.AsType[*ForbiddenError](err); refused != tc.want {
				t.Errorf("got %v, want it refused: %t", err, tc.want)
			}
		})
	}
}

func TestOnlyTCPToAnAllowedAddressIsDialed(t *testing.T) {
	d := &Dialer{}
	for network, address := range map[string]string{"unix": "/run/postgresql", "udp": "10.0.0.5:53", "tcp": "localhost:5432", "tcp4": "127.0.0.1:5432", "tcp6": "[fe80::1]:5432"} {
		if _, err := d.DialContext(t.Context(), Rules{}, network, address); err == nil {
			t.Errorf("%s %s was dialed", network, address)
		} else if _, refused := errors.AsType[*ForbiddenError](err); !refused {
			t.Errorf("%s %s: got %v, want it refused before anything is dialed", network, address, err)
		}
	}
}
