// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// directoryNameTag is the tag of directoryName in a GeneralName (RFC 5280, section 4.2.1.6).
const directoryNameTag = 4

// directoryName is a Name (RFC 5280, section 4.1.2.4): one string per relative name, such that names that match have equal
// strings.
type directoryName []string

type nameAttribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// nameAttributeSET is decoded as a SET OF because of the suffix of its name.
type nameAttributeSET []nameAttribute

// directoryLimits holds the name constraints of a certificate that concern directory names.
type directoryLimits struct{ permitted, excluded []directoryName }

// checkDirectoryNames checks the subjects of a chain, from the leaf to the trust anchor, against the directory name
// constraints of the certificates above each of them (RFC 5280, sections 4.2.1.10 and 6.1.3). Go ignores those constraints
// unless they are critical; OpenSSL and Java enforce them and would refuse a chain that breaks them.
func checkDirectoryNames(chain []*x509.Certificate) error {
	for i, above := range chain {
		limits, err := directoryLimitsOf(above)
		if err != nil {
			return fmt.Errorf("the name constraints of %s cannot be read: %w", Describe(above), err)
		}
		for place, certificate := range chain[:i] {
			if place > 0 && bytes.Equal(certificate.RawSubject, certificate.RawIssuer) {
				continue
			}
			if err := limits.check(certificate); err != nil {
				return fmt.Errorf("the name constraints of %s %w, which OpenSSL and Java enforce: change commonName or organizations, or the authority", Describe(above), err)
			}
		}
	}
	return nil
}

func (l directoryLimits) check(certificate *x509.Certificate) error {
	subject, err := readName(certificate.RawSubject)
	if err != nil || len(subject) == 0 {
		return err
	}
	below := func(base directoryName) bool {
		return len(subject) >= len(base) && slices.Equal(subject[:len(base)], base)
	}
	if slices.ContainsFunc(l.excluded, below) {
		return fmt.Errorf("exclude the subject %s", Describe(certificate))
	}
	if len(l.permitted) > 0 && !slices.ContainsFunc(l.permitted, below) {
		return fmt.Errorf("do not permit the subject %s", Describe(certificate))
	}
	return nil
}

func directoryLimitsOf(certificate *x509.Certificate) (directoryLimits, error) {
	var out directoryLimits
	for _, extension := range certificate.Extensions {
		if !extension.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 30}) {
			continue
		}
		var lists []asn1.RawValue
		if rest, err := asn1.Unmarshal(extension.Value, &lists); err != nil || len(rest) > 0 {
			return out, errors.New("they are not DER")
		}
		for _, list := range lists {
			names, err := directoryNamesOf(list.Bytes)
			if err != nil {
				return out, err
			}
			switch list.Tag {
			case 0:
				out.permitted = names
			case 1:
				out.excluded = names
			}
		}
	}
	return out, nil
}

// directoryNamesOf returns the bases of GeneralSubtrees that are directory names.
func directoryNamesOf(der []byte) ([]directoryName, error) {
	var out []directoryName
	for len(der) > 0 {
		var subtree, base asn1.RawValue
		rest, err := asn1.Unmarshal(der, &subtree)
		if err != nil {
			return nil, errors.New("they are not DER")
		}
		der = rest
		if _, err := asn1.Unmarshal(subtree.Bytes, &base); err != nil {
			return nil, errors.New("they are not DER")
		}
		if base.Class != asn1.ClassContextSpecific || base.Tag != directoryNameTag {
			continue
		}
		name, err := readName(base.Bytes)
		if err != nil {
			return nil, err
		}
		out = append(out, name)
	}
	return out, nil
}

// readName normalizes what does not count in a comparison: case, runs of spaces, the string type, the order within a
// relative name (RFC 5280, section 7.1).
func readName(der []byte) (directoryName, error) {
	var sets []nameAttributeSET
	if rest, err := asn1.Unmarshal(der, &sets); err != nil || len(rest) > 0 {
		return nil, errors.New("they are not DER")
	}
	out := make(directoryName, 0, len(sets))
	for _, set := range sets {
		texts := make([]string, 0, len(set))
		for _, attribute := range set {
			value := strings.Join(strings.Fields(strings.ToLower(textOf(attribute.Value))), " ")
			texts = append(texts, fmt.Sprintf("%s=%q", attribute.Type, value))
		}
		slices.Sort(texts)
		out = append(out, strings.Join(texts, "+"))
	}
	return out, nil
}

// textOf decodes the string types that occur in names. A value of any other type matches only an identical value.
func textOf(value asn1.RawValue) string {
	const universalString, visibleString = 28, 26
	switch value.Tag {
	case asn1.TagUTF8String, asn1.TagPrintableString, asn1.TagIA5String, asn1.TagNumericString, visibleString:
		return string(value.Bytes)
	case asn1.TagT61String:
		return wide(value.Bytes, 1)
	case asn1.TagBMPString:
		return wide(value.Bytes, 2)
	case universalString:
		return wide(value.Bytes, 4)
	}
	return hex.EncodeToString(value.FullBytes)
}

// wide decodes characters of size bytes each, in big-endian order.
func wide(data []byte, size int) string {
	var out strings.Builder
	for ; len(data) >= size; data = data[size:] {
		var character rune
		for _, b := range data[:size] {
			character = character<<8 | rune(b)
		}
		out.WriteRune(character)
	}
	return out.String()
}
