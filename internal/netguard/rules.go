// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package netguard

import (
	"fmt"
	"net/netip"
)

// forbidden lists networks that are never dialed: an address in a spec must not turn the operator into a way to services that
// trust the node. Metadata services outside link-local are listed by hand; a cloud's own block for them is listed whole.
var forbidden = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, where metadata services are"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fd00:ec2::/32"), "a metadata service"},      // AWS: instance metadata, EKS Pod Identity, DNS, time
	{netip.MustParsePrefix("fd20:ce::/32"), "a metadata service"},       // Google Cloud
	{netip.MustParsePrefix("fd00:c1::/32"), "a metadata service"},       // Oracle Cloud
	{netip.MustParsePrefix("fd00:42::/32"), "a metadata service"},       // Scaleway
	{netip.MustParsePrefix("100.100.100.200/32"), "a metadata service"}, // Alibaba Cloud
	{netip.MustParsePrefix("192.0.0.192/32"), "a metadata service"},     // Oracle Cloud
	{netip.MustParsePrefix("168.63.129.16/32"), "a metadata service"},   // Azure
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("2001::/32"), "Teredo, which tunnels to any IPv4 address"},
}

// embedding lists prefixes whose IPv6 addresses contain an IPv4 address, and the bytes that hold it.
var embedding = []struct {
	prefix netip.Prefix
	bytes  [4]int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), [4]int{12, 13, 14, 15}},    // NAT64 (RFC 6052)
	{netip.MustParsePrefix("2002::/16"), [4]int{2, 3, 4, 5}},           // 6to4 (RFC 3056)
	{netip.MustParsePrefix("::/96"), [4]int{12, 13, 14, 15}},           // IPv4-compatible (RFC 4291)
	{netip.MustParsePrefix("::ffff:0:0:0/96"), [4]int{12, 13, 14, 15}}, // IPv4-translated (RFC 2765)
	// A local network's NAT64 (RFC 8215), for each prefix length of RFC 6052.
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{12, 13, 14, 15}},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{9, 10, 11, 12}},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{7, 9, 10, 11}},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{6, 7, 9, 10}},
}

// ForbiddenError is the reason why an address is not dialed. It holds addresses only, nothing that a resolver said.
type ForbiddenError struct{ text string }

// Error implements error.
func (e *ForbiddenError) Error() string { return e.text }

// Rules are what differs between callers about which addresses may be dialed.
type Rules struct {
	// AllowLoopback allows loopback addresses, which tests and local clusters need.
	AllowLoopback bool
}

// Check returns a *ForbiddenError if address must not be dialed.
func (r Rules) Check(address netip.Addr) error {
	address = address.Unmap().WithZone("")
	if address.IsLoopback() {
		if r.AllowLoopback {
			return nil
		}
		return &ForbiddenError{fmt.Sprintf("%s is a loopback address (which --allow-loopback would allow)", address)}
	}
	for _, f := range forbidden {
		if f.prefix.Contains(address) {
			return &ForbiddenError{fmt.Sprintf("%s is %s", address, f.what)}
		}
	}
	for _, inside := range embedded(address) {
		if err := r.Check(inside); err != nil {
			return &ForbiddenError{fmt.Sprintf("%s leads to %s", address, err)}
		}
	}
	return nil
}

// embedded returns the IPv4 addresses that an IPv6 address may lead to. If the position depends on the network, every position
// is read; a value that starts with zero leads nowhere and belongs to another position.
func embedded(address netip.Addr) []netip.Addr {
	if !address.Is6() {
		return nil
	}
	bytes := address.As16()
	var out []netip.Addr
	for _, e := range embedding {
		if e.prefix.Contains(address) && (bytes[e.bytes[0]] != 0 || e.prefix.Bits() != 48) {
			out = append(out, netip.AddrFrom4([4]byte{bytes[e.bytes[0]], bytes[e.bytes[1]], bytes[e.bytes[2]], bytes[e.bytes[3]]}))
		}
	}
	// ISATAP (RFC 5214): the interface is 0:5efe or 200:5efe, and the IPv4 address.
	if bytes[8]&^2 == 0 && bytes[9] == 0 && bytes[10] == 0x5e && bytes[11] == 0xfe {
		out = append(out, netip.AddrFrom4([4]byte(bytes[12:16])))
	}
	return out
}
