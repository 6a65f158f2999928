// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"
	"time"
	"unicode"
)

const (
	// maxName limits a subject or an issuer, in bytes.
	maxName = 256
	// maxRawName is the longest name in DER that is printed: printing takes time that grows with its square.
	maxRawName = 4 << 10
	// lastYear is the last one that RFC 3339 can express.
	lastYear = 9999
)

// Certificate is what is kept of a certificate: public data.
type Certificate struct {
	// SHA256 is the hash of its DER.
	SHA256 [sha256.Size]byte
	// NotBefore and NotAfter are its validity, UTC.
	NotBefore, NotAfter time.Time
	// Subject and Issuer are distinguished names (RFC 2253), at most 256 bytes, printable. A certificate without a subject has the
	// words "a certificate without a subject" there.
	Subject, Issuer string
}

// Fingerprint returns the hash as openssl and browsers show it, in lowercase hex.
func (c Certificate) Fingerprint() string { return hex.EncodeToString(c.SHA256[:]) }

// outline is what is read of a certificate (RFC 5280, section 4.1). Go's parser refuses certificates that other software uses, such
// as those with unknown curves or negative serial numbers, and they expire too.
type outline struct {
	TBS struct {
		Version   int `asn1:"optional,explicit,default:0,tag:0"`
		Serial    asn1.RawValue
		Signature asn1.RawValue
		Issuer    asn1.RawValue
		Validity  struct{ NotBefore, NotAfter time.Time }
		Subject   asn1.RawValue
		PublicKey asn1.RawValue
	}
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

// parsed is a certificate with what links it to its issuer.
type parsed struct {
	Certificate
	rawSubject, rawIssuer []byte
}

// parse reads one certificate in DER, and returns what follows it.
func parse(der []byte) (out parsed, rest []byte, err error) {
	var read outline
	rest, err = asn1.Unmarshal(der, &read)
	if err != nil || !read.TBS.Validity.NotAfter.After(time.Time{}) || read.TBS.Validity.NotAfter.UTC().Year() > lastYear {
		return parsed{}, nil, errors.New("a certificate in it is damaged")
	}
	out.SHA256 = sha256.Sum256(der[:len(der)-len(rest)])
	out.NotBefore, out.NotAfter = read.TBS.Validity.NotBefore.UTC(), read.TBS.Validity.NotAfter.UTC()
	out.rawSubject, out.rawIssuer = read.TBS.Subject.FullBytes, read.TBS.Issuer.FullBytes
	out.Subject, out.Issuer = nameOf(out.rawSubject, "a certificate without a subject"), nameOf(out.rawIssuer, "an issuer without a name")
	return out, rest, nil
}

// nameOf returns a distinguished name as text.
func nameOf(raw []byte, without string) string {
	var sequence pkix.RDNSequence
	if len(raw) > maxRawName {
		return "a name that is too long"
	}
	if _, err := asn1.Unmarshal(raw, &sequence); err != nil {
		return "a name that cannot be read"
	}
	return cmp.Or(printable(sequence.String(), maxName), without)
}

// printable bounds text that others wrote before it goes into a status or a message.
func printable(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) || r == unicode.ReplacementChar {
			return '?'
		}
		return r
	}, text)
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most-len("...")], "") + "..."
	}
	return strings.Clone(text)
}

// chains groups certificates in the order of their file: each is followed by its issuer as long as the next one has that name. A
// certificate that signed itself ends a chain.
func chains(all []parsed) [][]parsed {
	var out [][]parsed
	for start := 0; start < len(all); {
		end := start + 1
		for end < len(all) && !bytes.Equal(all[end-1].rawIssuer, all[end-1].rawSubject) && bytes.Equal(all[end-1].rawIssuer, all[end].rawSubject) {
			end++
		}
		out = append(out, all[start:end])
		start = end
	}
	return out
}

// earliest returns the member of a chain that expires first; of two, the one nearer to the leaf.
func earliest(chain []parsed) parsed {
	first := chain[0]
	for _, member := range chain[1:] {
		if member.NotAfter.Before(first.NotAfter) {
			first = member
		}
	}
	return first
}
