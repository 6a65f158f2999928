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
// node. Metadata services outside link-local are listed by hand.
var forbidden = []struct {
	prefix netip.Prefix
	what   string
}{
	{netip.MustParsePrefix("0.0.0.0/8"), "unspecified"},
	{netip.MustParsePrefix("::/128"), "unspecified"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local, where metadata services are"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("fd00:ec2::254/128"), "a metadata service"},
	{netip.MustParsePrefix("100.100.100.200/32"), "a metadata service"},
	{netip.MustParsePrefix("192.0.0.192/32"), "a metadata service"},
	{netip.MustParsePrefix("168.63.129.16/32"), "a metadata service"},
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
}

// Prefixes that carry an IPv4 address inside an IPv6 address, and where.
var embedding = []struct {
	prefix netip.Prefix
	offset int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},
	{netip.MustParsePrefix("2002::/16"), 2},
	{netip.MustParsePrefix("::/96"), 12},
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
	if address.Is6() {
		bytes := address.As16()
		for _, e := range embedding {
			if e.prefix.Contains(address) {
				return judge(netip.AddrFrom4([4]byte(bytes[e.offset:e.offset+4])), allowLoopback)
			}
		}
	}
	return nil
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
