// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package node

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// LockMachine keeps two launchers from choosing the same addresses. Closing the
// file releases the lock.
func LockMachine() (*os.File, error) {
	path := filepath.Join(os.TempDir(), "rekey-localcluster.lock")
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the lock of this machine's addresses: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("taking the lock of this machine's addresses: %w", err)
	}
	return file, nil
}

// freeNetwork returns an n such that this machine has no address in and no route
// to 10.n.0.0/16.
func freeNetwork() (int, error) {
	taken, err := takenNetworks()
	if err != nil {
		return 0, err
	}
	for n := 200; n < 255; n++ {
		candidate := &net.IPNet{IP: net.IPv4(10, byte(n), 0, 0).To4(), Mask: net.CIDRMask(16, 32)}
		if !overlapsAny(candidate, taken) {
			return n, nil
		}
	}
	return 0, errors.New("finding free addresses: every network from 10.200.0.0/16 to 10.254.0.0/16 is in use here")
}

func overlapsAny(candidate *net.IPNet, taken []*net.IPNet) bool {
	for _, other := range taken {
		if other.Contains(candidate.IP) || candidate.Contains(other.IP) {
			return true
		}
	}
	return false
}

func takenNetworks() ([]*net.IPNet, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("listing this machine's addresses: %w", err)
	}
	var taken []*net.IPNet
	for _, address := range addresses {
		if network, ok := address.(*net.IPNet); ok && network.IP.To4() != nil {
			taken = append(taken, network)
		}
	}
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nil, fmt.Errorf("listing this machine's routes: %w", err)
	}
	return append(taken, parseRoutes(string(routes))...), nil
}

// parseRoutes parses the kernel's table, whose addresses are hexadecimal and
// little-endian. It ignores the default route.
func parseRoutes(table string) []*net.IPNet {
	var networks []*net.IPNet
	for line := range strings.Lines(table) {
		fields := strings.Fields(line)
		if len(fields) < 8 {
			continue
		}
		destination, err := hex.DecodeString(fields[1])
		if err != nil {
			continue // the header
		}
		mask, err := hex.DecodeString(fields[7])
		if err != nil || len(mask) != 4 || len(destination) != 4 || binary.LittleEndian.Uint32(mask) == 0 {
			continue
		}
		networks = append(networks, &net.IPNet{IP: reversed(destination), Mask: net.IPMask(reversed(mask))})
	}
	return networks
}

func reversed(b []byte) net.IP { return net.IP{b[3], b[2], b[1], b[0]} }
