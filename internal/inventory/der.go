// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"encoding/asn1"
	"errors"
	"slices"
)

// oidSignedData is the content type of PKCS#7 files (RFC 2315, section 14).
var oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}

// isDER reports whether a value starts like a sequence in DER or BER of more than 127 bytes: every certificate and keystore does.
func isDER(value []byte) bool {
	return len(value) > 2 && value[0] == 0x30 && value[1] >= 0x80 && value[1] <= 0x84
}

// der reads a value that starts like DER: certificates one after the other, or a keystore. Anything else is neither read nor
// reported, such as a private key.
func (r *reader) der(value []byte) ([]group, error) {
	if value[1] == 0x80 {
		return nil, errors.New("is BER with indefinite lengths, which is not read: convert it to DER with openssl pkcs12 or openssl pkcs7")
	}
	var outer, first asn1.RawValue
	if _, err := asn1.Unmarshal(value, &outer); err != nil {
		return nil, nil //nolint:nilerr // bytes that start with 0x30 by chance
	}
	if _, err := asn1.Unmarshal(outer.Bytes, &first); err != nil {
		return nil, nil //nolint:nilerr // likewise
	}
	var content asn1.ObjectIdentifier
	switch {
	case first.Class != asn1.ClassUniversal:
		return nil, nil
	case first.Tag == asn1.TagInteger && slices.Equal(first.Bytes, []byte{3}):
		return r.pkcs12(value)
	case first.Tag == asn1.TagOID:
		if _, err := asn1.Unmarshal(first.FullBytes, &content); err == nil && content.Equal(oidSignedData) {
			return nil, errors.New("is PKCS#7, which is not read: convert it with openssl pkcs7 -inform DER -print_certs")
		}
		return nil, nil
	case first.Tag == asn1.TagSequence:
		return readDER(value)
	}
	return nil, nil
}

// readDER reads certificates that follow each other. If the first sequence is not a certificate, the value is something else.
func readDER(value []byte) ([]group, error) {
	var out []parsed
	for len(value) > 0 && len(out) <= maxCertificates {
		certificate, rest, err := parse(value)
		switch {
		case err != nil && len(out) == 0:
			return nil, nil
		case err != nil:
			return []group{{certificates: out}}, errors.New("has bytes after its certificates that cannot be read: write the file again")
		}
		out = append(out, certificate)
		value = rest
	}
	return []group{{certificates: out}}, nil
}

// element encodes an element in DER.
func element(tag byte, parts ...[]byte) []byte {
	content := slices.Concat(parts...)
	length := len(content)
	switch {
	case length < 0x80:
		return append([]byte{tag, byte(length)}, content...)
	case length < 0x100:
		return append([]byte{tag, 0x81, byte(length)}, content...)
	case length < 0x10000:
		return append([]byte{tag, 0x82, byte(length >> 8), byte(length)}, content...) //nolint:gosec // below 0x10000
	}
	return append([]byte{tag, 0x83, byte(length >> 16), byte(length >> 8), byte(length)}, content...) //nolint:gosec // below 16 MiB: a Secret has 1
}
