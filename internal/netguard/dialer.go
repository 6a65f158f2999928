// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package netguard

import (
	"context"
	"net"
	"net/netip"
	"strings"
)

// Dialer resolves hosts and connects to them, as Rules allow. The zero value is ready to use. Share one: it remembers which
// addresses do not answer.
type Dialer struct {
	// Resolve returns the IP addresses of a host; nil means the system's resolver.
	Resolve func(ctx context.Context, host string) ([]string, error)

	gates gates
}

// LookupHost returns the IP addresses of a host, all of them checked. One forbidden answer refuses the host: the result must
// not depend on chance. host may be an IP address. The error is a *ForbiddenError, or the resolver's.
func (d *Dialer) LookupHost(ctx context.Context, rules Rules, host string) ([]string, error) {
	found, err := d.resolve(ctx, host)
	if err != nil {
		return nil, err
	}
	for _, text := range found {
		address, err := netip.ParseAddr(text)
		if err != nil {
			return nil, &ForbiddenError{"the resolver returned something that is not an IP address"}
		}
		if err := rules.Check(address); err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (d *Dialer) resolve(ctx context.Context, host string) ([]string, error) {
	if address, err := netip.ParseAddr(host); err == nil {
		return []string{address.String()}, nil
	}
	if d.Resolve != nil {
		return d.Resolve(ctx, host)
	}
	return net.DefaultResolver.LookupHost(ctx, host)
}

// DialContext connects over TCP to an IP address with a port, which is checked once more. It resolves nothing. The error is a
// *ForbiddenError, or the network's.
func (d *Dialer) DialContext(ctx context.Context, rules Rules, network, address string) (net.Conn, error) {
	ip, err := netip.ParseAddrPort(address)
	if err != nil || !strings.HasPrefix(network, "tcp") {
		return nil, &ForbiddenError{"only TCP to a resolved address is dialed"}
	}
	if err := rules.Check(ip.Addr()); err != nil {
		return nil, err
	}
	var dialer net.Dialer
	return dialer.DialContext(ctx, network, ip.String())
}

// Enter reports whether address may be dialed now. If so, the caller must call leave once, and report whether anything
// answered in time, whatever the answer was. If not, another attempt to reach a silent address is under way: return at once
// and retry later.
func (d *Dialer) Enter(address string) (leave func(answered bool), ok bool) {
	ok, alone := d.gates.enter(address)
	if !ok {
		return nil, false
	}
	return func(answered bool) { d.gates.leave(address, alone, answered) }, true
}
