// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package netguard

import (
	"net/netip"
	"testing"
)

func TestForbiddenNetworksAreNotDialed(t *testing.T) {
	cases := map[string]struct {
		address  string
		loopback bool
		want     bool // whether it may be dialed
	}{
		"a private address":                             {"10.1.2.3", false, true},
		"a public address":                              {"203.0.113.9", false, true},
		"a unique local address":                        {"fd12:3456::1", false, true},
		"loopback":                                      {"127.0.0.1", false, false},
		"loopback, elsewhere in the network":            {"127.9.9.9", false, false},
		"loopback of IPv6":                              {"::1", false, false},
		"loopback, allowed":                             {"127.0.0.1", true, true},
		"loopback inside IPv6":                          {"::ffff:127.0.0.1", false, false},
		"link-local":                                    {"169.254.1.1", true, false},
		"the metadata address":                          {"169.254.169.254", true, false},
		"the metadata address inside IPv6":              {"::ffff:169.254.169.254", true, false},
		"the metadata address behind NAT64":             {"64:ff9b::a9fe:a9fe", true, false},
		"the metadata address behind 6to4":              {"2002:a9fe:a9fe::1", true, false},
		"the metadata address, IPv4-compatible":         {"::169.254.169.254", true, false},
		"a private address behind NAT64":                {"64:ff9b::a01:203", false, true},
		"link-local of IPv6":                            {"fe80::1", true, false},
		"link-local of IPv6 with a zone":                {"fe80::1%eth0", true, false},
		"metadata of IPv6":                              {"fd00:ec2::254", true, false},
		"metadata outside link-local":                   {"100.100.100.200", true, false},
		"unspecified, which is loopback for the kernel": {"0.0.0.0", true, false},
		"unspecified of IPv6":                           {"::", true, false},
		"multicast":                                     {"224.0.0.1", true, false},
		"multicast of IPv6":                             {"ff02::1", true, false},
		"broadcast":                                     {"255.255.255.255", true, false},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			err := Rules{AllowLoopback: tc.loopback}.Check(netip.MustParseAddr(tc.address))
			if (err == nil) != tc.want {
				t.Errorf("%s: got %v, want dialed: %t", tc.address, err, tc.want)
			}
		})
	}
}

// embeddings holds the ways to write an IPv4 address inside an IPv6 address.
var embeddings = map[string]func([4]byte) [16]byte{
	"IPv4-mapped":                      at(netip.MustParseAddr("::ffff:0:0"), 12, 13, 14, 15),
	"IPv4-compatible":                  at(netip.MustParseAddr("::"), 12, 13, 14, 15),
	"IPv4-translated":                  at(netip.MustParseAddr("::ffff:0:0:0"), 12, 13, 14, 15),
	"NAT64":                            at(netip.MustParseAddr("64:ff9b::"), 12, 13, 14, 15),
	"NAT64 of a network, /96":          at(netip.MustParseAddr("64:ff9b:1::"), 12, 13, 14, 15),
	"NAT64 of a network, another /96":  at(netip.MustParseAddr("64:ff9b:1:abcd::"), 12, 13, 14, 15),
	"NAT64 of a network, /64":          at(netip.MustParseAddr("64:ff9b:1::"), 9, 10, 11, 12),
	"NAT64 of a network, /56":          at(netip.MustParseAddr("64:ff9b:1::"), 7, 9, 10, 11),
	"NAT64 of a network, /48":          at(netip.MustParseAddr("64:ff9b:1::"), 6, 7, 9, 10),
	"6to4":                             at(netip.MustParseAddr("2002::1"), 2, 3, 4, 5),
	"ISATAP":                           at(netip.MustParseAddr("2001:db8::5efe:0:0"), 12, 13, 14, 15),
	"ISATAP with the universal bit":    at(netip.MustParseAddr("2001:db8::200:5efe:0:0"), 12, 13, 14, 15),
	"ISATAP in a network of one's own": at(netip.MustParseAddr("fd12:3456::5efe:0:0"), 12, 13, 14, 15),
}

func at(base netip.Addr, places ...int) func([4]byte) [16]byte {
	return func(v4 [4]byte) [16]byte {
		out := base.As16()
		for i, place := range places {
			out[place] = v4[i]
		}
		return out
	}
}

func TestNoFormOfAForbiddenAddressIsDialed(t *testing.T) {
	forbidden := []string{"169.254.169.254", "169.254.170.2", "169.254.170.23", "169.254.0.1", "100.100.100.200", "168.63.129.16", "192.0.0.192", "224.0.0.1", "239.255.255.250", "255.255.255.255", "127.0.0.1", "127.1.2.3"}
	allowed := []string{"10.0.0.5", "10.255.255.254", "172.16.3.4", "192.168.1.1", "192.0.2.7", "203.0.113.9", "100.64.0.1", "8.8.8.8"}
	tried := 0
	for form, embed := range embeddings {
		for refused, addresses := range map[bool][]string{true: forbidden, false: allowed} {
			for _, text := range addresses {
				address := netip.AddrFrom16(embed(netip.MustParseAddr(text).As4()))
				tried++
				if err := (Rules{}).Check(address); (err != nil) != refused {
					t.Errorf("%s inside %s (%s): got %v, want it refused: %t", text, address, form, err, refused)
				}
			}
		}
	}
	t.Logf("%d addresses in %d forms", tried, len(embeddings))
}

func TestNoMetadataServiceIsDialed(t *testing.T) {
	for what, text := range map[string]string{
		"AWS": "169.254.169.254", "AWS over IPv6": "fd00:ec2::254", "ECS": "169.254.170.2", "EKS Pod Identity": "169.254.170.23", "EKS Pod Identity over IPv6": "fd00:ec2::23",
		"the resolver of AWS": "fd00:ec2::253", "Google Cloud over IPv6": "fd20:ce::254", "Azure's host": "168.63.129.16", "Alibaba Cloud": "100.100.100.200",
		"Oracle Cloud": "192.0.0.192", "Oracle Cloud over IPv6": "fd00:c1::a9fe:a9fe", "Scaleway": "169.254.42.42", "Scaleway over IPv6": "fd00:42::42",
		"OpenStack over IPv6": "fe80::a9fe:a9fe", "Hetzner, with a zone": "fe80::a9fe:a9fe%eth0", "Tencent Cloud": "169.254.0.23",
		"Teredo to AWS": "2001:0:a9fe:a9fe::1", "Teredo of a client": "2001:0:4136:e378:8000:63bf:5601:5601",
	} {
		if err := (Rules{AllowLoopback: true}).Check(netip.MustParseAddr(text)); err == nil {
			t.Errorf("%s (%s) would be dialed", what, text)
		}
	}
	for _, text := range []string{"fd00::1", "fd12:3456:789a::254", "2001:db8::1", "2a01:4f8::1", "fd00:ec3::254", "2001:1::1"} {
		if err := (Rules{}).Check(netip.MustParseAddr(text)); err != nil {
			t.Errorf("%s is refused: %v", text, err)
		}
	}
}
