// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
)

var (
	magicJKS   = []byte{0xfe, 0xed, 0xfe, 0xed}
	magicJCEKS = []byte{0xce, 0xce, 0xce, 0xce}
)

// The tags of entries, and the length of the digest at the end, in bytes.
const (
	tagPrivateKey  = 1
	tagCertificate = 2
	digestJKS      = 20
)

// readJKS reads the certificates of a Java keystore. They are not encrypted, so no password is needed; the digest at the end, which
// only the password can verify, is not checked.
func readJKS(value []byte) ([]group, error) {
	if err := checkJKS(value); err != nil {
		return nil, err
	}
	store := keystore.New(keystore.WithCaseExactAliases(), keystore.WithOrderedAliases())
	_ = store.Load(bytes.NewReader(value), nil) // fails at the digest, after everything else is read
	var out []group
	var damaged error
	for _, alias := range store.Aliases() {
		entry := group{entry: printable(alias, maxEntry)}
		for _, certificate := range certificatesOf(store, alias) {
			read, rest, err := parse(certificate.Content)
			if err != nil || len(rest) > 0 {
				damaged = fmt.Errorf("has a damaged certificate under the alias %s: import it again with keytool", entry.entry)
				continue
			}
			entry.certificates = append(entry.certificates, read)
		}
		if len(entry.certificates) > 0 {
			out = append(out, entry)
		}
	}
	return out, damaged
}

func certificatesOf(store keystore.KeyStore, alias string) []keystore.Certificate {
	if trusted, err := store.GetTrustedCertificateEntry(alias); err == nil {
		return []keystore.Certificate{trusted.Certificate}
	}
	chain, err := store.GetPrivateKeyEntryCertificateChain(alias)
	if err != nil {
		return nil
	}
	return chain
}

// lengths walks over a keystore's lengths, which the decoder trusts: it allocates what they say.
type lengths struct {
	rest []byte
	bad  bool
}

func (l *lengths) number(size int) int {
	part := l.skip(size)
	switch {
	case l.bad:
		return 0
	case size == 2:
		return int(binary.BigEndian.Uint16(part))
	}
	return int(binary.BigEndian.Uint32(part))
}

func (l *lengths) skip(size int) []byte {
	if l.bad || size > len(l.rest) {
		l.bad = true
		return nil
	}
	part := l.rest[:size]
	l.rest = l.rest[size:]
	return part
}

// certificate skips one certificate of a keystore of that version.
func (l *lengths) certificate(version int) {
	if version == 2 {
		l.skip(l.number(2))
	}
	l.skip(l.number(4))
}

// entry skips one entry of a keystore of that version, and returns the number of its certificates.
func (l *lengths) entry(version int) (count int) {
	tag := l.number(4)
	l.skip(l.number(2)) // alias
	l.skip(8)           // date
	count = 1
	switch tag {
	case tagPrivateKey:
		l.skip(l.number(4))
		count = l.number(4)
	case tagCertificate:
	default:
		l.bad = true
	}
	for i := 0; i < count && !l.bad; i++ {
		l.certificate(version)
	}
	return count
}

// checkJKS checks that a keystore's lengths fit into it. Java's source is the only definition of the format (JavaKeyStore, versions 1
// and 2).
func checkJKS(value []byte) error {
	l := &lengths{rest: value[len(magicJKS):]}
	version, entries, certificates := l.number(4), l.number(4), 0
	for range entries {
		certificates += l.entry(version)
		if l.bad {
			break
		}
		if certificates > maxCertificates {
			return fmt.Errorf("has more than %d certificates: split it", maxCertificates)
		}
	}
	if l.bad || version != 1 && version != 2 || len(l.rest) != digestJKS {
		return errors.New("is a damaged Java keystore: check it with keytool -list")
	}
	return nil
}
