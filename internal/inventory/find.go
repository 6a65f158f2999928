// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/rekey/rekey/internal/credential"
)

const (
	// maxCertificates is the maximum number of certificates that are read from one value. The bundle of a Linux distribution has
	// about 150.
	maxCertificates = 1000
	// maxValue is the maximum length of a value, in bytes. The API server stores at most about 1 MiB.
	maxValue = 4 << 20
	// maxIterations is the maximum number of key derivations that one object may cost, over all its keystores and passwords: less
	// than a second. OpenSSL and Windows use about 2,000 for each keystore, Java 10,000.
	maxIterations = 1_000_000
	// maxItems and maxUnreadable limit what is kept of one object: its owner decides what is in it.
	maxItems      = 2000
	maxUnreadable = 20
	// maxReason limits a reason, in bytes.
	maxReason = 200
	// maxEntry limits the alias of a keystore's entry, in bytes.
	maxEntry = 64
)

// Item is a certificate, or a chain of certificates, that counts as one: with its member that expires first.
type Item struct {
	Certificate
	// Key is that of the value. Entry is the place inside it: the field of a kubeconfig, the alias in a Java keystore; else empty.
	Key, Entry string
	// Leaf is the subject of the chain's first certificate, if another member expires before it; else empty.
	Leaf string
}

// Unreadable is a value that looks like certificates, or in which some could not be read.
type Unreadable struct {
	// Key is that of the value; empty if the reason is about the whole object.
	Key string
	// Reason is the rest of a sentence about the value, with the next step. Of the value it shows only the alias of a keystore's entry.
	Reason string
}

// Found is what an object contains.
type Found struct {
	Items      []Item
	Unreadable []Unreadable
}

// Find returns the certificates in the data of a Secret or ConfigMap, in the order of the keys, each once, and what could not be
// read. passwords, besides the empty one, are tried on every encrypted keystore. It neither keeps nor decrypts private keys, keeps
// nothing of data, and does not panic. Values that do not look like certificates are skipped.
func Find(data map[string][]byte, passwords ...credential.Sensitive) Found {
	r := &reader{passwords: passwords, iterations: maxIterations}
	var out Found
	seen := map[[32]byte]bool{}
	unread, dropped := 0, false
	for _, key := range slices.Sorted(maps.Keys(data)) {
		groups, err := r.value(key, data[key])
		for _, item := range itemsOf(key, groups) {
			switch {
			case seen[item.SHA256]:
			case len(out.Items) == maxItems:
				dropped = true
			default:
				seen[item.SHA256] = true
				out.Items = append(out.Items, item)
			}
		}
		switch {
		case err == nil:
		case len(out.Unreadable) < maxUnreadable:
			out.Unreadable = append(out.Unreadable, Unreadable{key, printable(err.Error(), maxReason)})
		default:
			unread++
		}
	}
	out.Unreadable = append(out.Unreadable, beyond(dropped, unread)...)
	return out
}

// beyond reports what an object contains beyond the limits of what is kept of it.
func beyond(dropped bool, unread int) []Unreadable {
	var out []Unreadable
	if dropped {
		out = append(out, Unreadable{Reason: fmt.Sprintf("has more than %d certificates, and the others are not watched: divide it", maxItems)})
	}
	if unread > 0 {
		out = append(out, Unreadable{Reason: fmt.Sprintf("has other values that cannot be read, %d of them, besides the first %d", unread, maxUnreadable)})
	}
	return out
}

// itemsOf returns an item for each chain.
func itemsOf(key string, groups []group) []Item {
	var out []Item
	for _, group := range groups {
		for _, chain := range chains(group.certificates) {
			first := earliest(chain)
			item := Item{Certificate: first.Certificate, Key: key, Entry: group.entry}
			if first.SHA256 != chain[0].SHA256 {
				item.Leaf = chain[0].Subject
			}
			out = append(out, item)
		}
	}
	return out
}

// group is a sequence of certificates that are stored together.
type group struct {
	entry        string
	certificates []parsed
}

// reader reads the values of one object.
type reader struct {
	passwords []credential.Sensitive
	// iterations that may still be spent.
	iterations int
}

// value reads one value. A panic of a decoder makes the value unreadable.
func (r *reader) value(key string, value []byte) (out []group, err error) {
	defer func() {
		if recover() != nil {
			out, err = nil, errors.New("cannot be decoded: check it with openssl or keytool")
		}
	}()
	out, err = r.content(value)
	if len(out) == 0 && err == nil && len(value) > 0 && isKeystoreName(key) {
		err = errors.New("is named like a keystore, but is neither PKCS#12 in DER nor JKS: convert it with keytool or openssl pkcs12")
	}
	return bounded(out, err)
}

// isKeystoreName reports whether a key has the ending of a keystore's file.
func isKeystoreName(key string) bool {
	return slices.Contains([]string{".p12", ".pfx", ".pkcs12", ".jks", ".keystore", ".truststore"}, strings.ToLower(path.Ext(key)))
}

// bounded drops the certificates above the limit.
func bounded(in []group, err error) ([]group, error) {
	left := maxCertificates
	for i := range in {
		if len(in[i].certificates) > left {
			in[i].certificates = in[i].certificates[:left]
			return in[:i+1], fmt.Errorf("has more than %d certificates, and the others are not read: split it", maxCertificates)
		}
		left -= len(in[i].certificates)
	}
	return in, err
}

// content recognizes the format of a value by its first bytes.
func (r *reader) content(value []byte) ([]group, error) {
	switch {
	case len(value) > maxValue:
		return nil, fmt.Errorf("has more than %d MiB and is not read: split it", maxValue>>20)
	case bytes.HasPrefix(value, magicJKS):
		return readJKS(value)
	case bytes.HasPrefix(value, magicJCEKS):
		return nil, errors.New("is a JCEKS keystore, which is not read: convert it with keytool -importkeystore -deststoretype PKCS12")
	case isDER(value):
		return r.der(value)
	case bytes.Contains(value, pemBegin):
		return readText(value)
	}
	if decoded, ok := fromBase64(value); ok {
		return r.content(decoded)
	}
	return readText(value)
}

// base64Starts are the first characters of base64 of DER, of PEM and of JKS.
var base64Starts = [][]byte{[]byte("MI"), []byte("LS0tLS1CRUdJTi"), []byte("/u3+7Q")}

// fromBase64 decodes a value that is base64 of something that is read: it was encoded twice, or a ConfigMap holds it.
func fromBase64(value []byte) ([]byte, bool) {
	text := bytes.TrimSpace(value)
	if !slices.ContainsFunc(base64Starts, func(start []byte) bool { return bytes.HasPrefix(text, start) }) {
		return nil, false
	}
	decoded, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(text), nil)))
	return decoded, err == nil && (isDER(decoded) || bytes.Contains(decoded, pemBegin) || bytes.HasPrefix(decoded, magicJKS))
}
