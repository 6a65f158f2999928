// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// Networks that are never dialed: an address in a spec must not turn the operator into a way to services that trust the
// node. Metadata services outside link-local are listed by hand; where a cloud has a block of its own for them, all of it.
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

// Prefixes that carry an IPv4 address inside an IPv6 address, and the bytes that hold it.
var embedding = []struct {
	prefix netip.Prefix
	bytes  [4]int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), [4]int{12, 13, 14, 15}},    // NAT64 (RFC 6052)
	{netip.MustParsePrefix("2002::/16"), [4]int{2, 3, 4, 5}},           // 6to4 (RFC 3056)
	{netip.MustParsePrefix("::/96"), [4]int{12, 13, 14, 15}},           // IPv4-compatible (RFC 4291)
	{netip.MustParsePrefix("::ffff:0:0:0/96"), [4]int{12, 13, 14, 15}}, // IPv4-translated (RFC 2765)
	// NAT64 of a network's own (RFC 8215), by each length of prefix that RFC 6052 knows.
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{12, 13, 14, 15}},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{9, 10, 11, 12}},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{7, 9, 10, 11}},
	{netip.MustParsePrefix("64:ff9b:1::/48"), [4]int{6, 7, 9, 10}},
}

// forbiddenError says that an address is not dialed.
type forbiddenError struct{ text string }

func (e *forbiddenError) Error() string { return e.text }

// judge refuses addresses that must not be dialed.
func judge(address netip.Addr, allowLoopback bool) error {
	address = address.Unmap().WithZone("")
	if address.IsLoopback() {
		if allowLoopback {
			return nil
		}
		return &forbiddenError{fmt.Sprintf("%s is a loopback address (which --allow-loopback would allow)", address)}
	}
	for _, f := range forbidden {
		if f.prefix.Contains(address) {
			return &forbiddenError{fmt.Sprintf("%s is %s", address, f.what)}
		}
	}
	for _, inside := range embedded(address) {
		if err := judge(inside, allowLoopback); err != nil {
			return &forbiddenError{fmt.Sprintf("%s leads to %s", address, err)}
		}
	}
	return nil
}

// embedded are the IPv4 addresses that an IPv6 address may lead to. Where the place depends on the network, each is read;
// one that begins with zero leads nowhere, and is what the other places hold.
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

// lookup resolves a host and judges every answer. One forbidden answer refuses the host: it is not luck that decides.
func (e *endpoint) lookup(ctx context.Context, host string) ([]string, error) {
	var found []string
	if address, err := netip.ParseAddr(host); err == nil {
		found = []string{address.String()}
	} else if found, err = e.resolve(ctx, host); err != nil {
		return nil, err
	}
	for _, text := range found {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return nil, &forbiddenError{"the resolver gave something that is not an IP address"}
		}
		if err := judge(address, e.server.AllowLoopback); err != nil {
			return nil, err
		}
	}
	return found, nil
}

// dialIP connects to an address that must be an IP, and is judged once more: nothing is resolved here.
func (e *endpoint) dialIP(ctx context.Context, network, address string) (net.Conn, error) {
	ip, err := netip.ParseAddrPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return nil, &forbiddenError{"only TCP to a resolved address is dialed"}
	}
	if err := judge(ip.Addr(), e.server.AllowLoopback); err != nil {
		return nil, err
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, ip.String())
}
