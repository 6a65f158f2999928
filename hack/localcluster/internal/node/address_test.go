// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"net"
	"testing"
)

func TestRoutesOccupyTheirNetworks(t *testing.T) {
	table := "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n" +
		"eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n" +
		"tun0\t0000C80A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\n" +
		"tun0\t0020D30A\t00000000\t0001\t0\t0\t0\t00F0FFFF\t0\t0\t0\n"
	taken := parseRoutes(table)
	tests := map[string]struct {
		network string
		want    bool
	}{
		"the network of a route":                  {"10.200.0.0/16", true},
		"a network that contains that of a route": {"10.211.0.0/16", true},
		"a network next to that of a route":       {"10.201.0.0/16", false},
		"the default route occupies no network":   {"10.254.0.0/16", false},
		"a network within that of a wider route":  {"10.200.7.0/24", true},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			_, network, err := net.ParseCIDR(tc.network)
			if err != nil {
				t.Fatal(err)
			}
			if got := overlapsAny(network, taken); got != tc.want {
				t.Errorf("overlapsAny(%s) = %t, want %t", tc.network, got, tc.want)
			}
		})
	}
}

func TestAFolderWithALongNameGetsAShortOneForSockets(t *testing.T) {
	long := "/srv/" + string(make([]byte, longestDir))
	for dir, short := range map[string]bool{"/srv/node": false, long: true} {
		place, err := Choose(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := place.Run != dir; got != short {
			t.Errorf("a folder of %d characters: sockets elsewhere is %t, want %t", len(dir), got, short)
		}
	}
}
