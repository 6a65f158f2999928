// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package oddfiles

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"testing"
	"time"
	"unicode/utf16"
)

// Object identifiers of extensions that crypto/x509 does not write, or not in the odd form.
var (
	oidCommonName   = asn1.ObjectIdentifier{2, 5, 4, 3}
	oidOrganization = asn1.ObjectIdentifier{2, 5, 4, 10}
	oidUnit         = asn1.ObjectIdentifier{2, 5, 4, 11}
	oidSubjectKeyID = asn1.ObjectIdentifier{2, 5, 29, 14}
	oidKeyUsage     = asn1.ObjectIdentifier{2, 5, 29, 15}
	oidAltName      = asn1.ObjectIdentifier{2, 5, 29, 17}
	oidBasic        = asn1.ObjectIdentifier{2, 5, 29, 19}
	oidNameLimits   = asn1.ObjectIdentifier{2, 5, 29, 30}
	oidPolicies     = asn1.ObjectIdentifier{2, 5, 29, 32}
	oidAuthorityKey = asn1.ObjectIdentifier{2, 5, 29, 35}
	oidPolicyLimits = asn1.ObjectIdentifier{2, 5, 29, 36}
	oidExtKeyUsage  = asn1.ObjectIdentifier{2, 5, 29, 37}
	oidAnyUsage     = asn1.ObjectIdentifier{2, 5, 29, 37, 0}
	oidServerAuth   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 1}
	oidClientAuth   = asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 2}
	oidComment      = asn1.ObjectIdentifier{2, 16, 840, 1, 113730, 1, 13}
	oidPrivate      = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 1}
)

// Bits of a key usage extension, the first in the highest bit of the first byte (RFC 5280, section 4.2.1.3).
const (
	usageDigitalSignature = 0x80
	usageCertSign         = 0x04
	usageCRLSign          = 0x02
)

type attribute struct {
	Type  asn1.ObjectIdentifier
	Value asn1.RawValue
}

// rdnSET is encoded as a SET OF, because of its name.
type rdnSET []attribute

type validity struct{ From, Until time.Time }

type toBeSigned struct {
	Version    int `asn1:"optional,explicit,default:0,tag:0"`
	Serial     *big.Int
	Algorithm  asn1.RawValue
	Issuer     asn1.RawValue
	Validity   validity
	Subject    asn1.RawValue
	PublicKey  asn1.RawValue
	Extensions []pkix.Extension `asn1:"omitempty,optional,explicit,tag:3"`
}

type signedCertificate struct {
	Body      asn1.RawValue
	Algorithm asn1.RawValue
	Signature asn1.BitString
}

func encode(tb testing.TB, value any) []byte {
	tb.Helper()
	der, err := asn1.Marshal(value)
	if err != nil {
		tb.Fatalf("encoding %T: %v", value, err)
	}
	return der
}

func raw(der []byte) asn1.RawValue { return asn1.RawValue{FullBytes: der} }

func text(tag int, value string) asn1.RawValue {
	data := []byte(value)
	if tag == asn1.TagBMPString {
		data = nil
		for _, unit := range utf16.Encode([]rune(value)) {
			data = append(data, byte(unit>>8), byte(unit))
		}
	}
	return asn1.RawValue{Tag: tag, Bytes: data}
}

// subject returns an ordinary name: a common name below an organization.
func subject(tb testing.TB, commonName string) []byte {
	tb.Helper()
	return encode(tb, []rdnSET{
		{{oidOrganization, text(asn1.TagUTF8String, "Example")}},
		{{oidCommonName, text(asn1.TagUTF8String, commonName)}},
	})
}

// profile is the whole content of a certificate, however odd.
type profile struct {
	name        []byte // Its subject.
	serial      *big.Int
	from, until time.Time
	key         *Key
	version     int // 1 or 3.
	// basic is CA:TRUE, FALSE or absent ("").
	basic         string
	basicCritical bool
	pathLength    int // -1: none.
	// usage holds the bits of the key usage extension; 0: no such extension.
	usage      byte
	noKeyID    bool
	noAuthKey  bool
	extensions []pkix.Extension
	digest     string // SHA256, or an outdated one.
}

// authority is a certificate, and its issuer.
type authority struct {
	profile

	der []byte
}

func (a authority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.der})
}

func pems(of ...authority) []byte {
	var out []byte
	for _, one := range of {
		out = append(out, one.pem()...)
	}
	return out
}

// encodeExtensions encodes the extensions of p; issuerKey is the signer's key.
func (p profile) encodeExtensions(tb testing.TB, issuerKey *Key) []pkix.Extension {
	tb.Helper()
	if p.version == 1 {
		return nil
	}
	var out []pkix.Extension
	if p.basic != "" {
		out = append(out, pkix.Extension{Id: oidBasic, Critical: p.basicCritical, Value: encode(tb, struct {
			IsCA       bool `asn1:"optional"`
			PathLength int  `asn1:"optional,default:-1"`
		}{p.basic == "TRUE", p.pathLength})})
	}
	if p.usage != 0 {
		out = append(out, pkix.Extension{Id: oidKeyUsage, Critical: true, Value: encode(tb, usageBits(p.usage))})
	}
	if !p.noKeyID {
		out = append(out, pkix.Extension{Id: oidSubjectKeyID, Value: encode(tb, p.key.id)})
	}
	if !p.noAuthKey {
		out = append(out, pkix.Extension{Id: oidAuthorityKey, Value: encode(tb, struct {
			ID []byte `asn1:"optional,tag:0"`
		}{issuerKey.id})})
	}
	return append(out, p.extensions...)
}

// usageBits drops trailing zero bits, as DER requires.
func usageBits(bits byte) asn1.BitString {
	length := 8
	for bits>>(8-length)&1 == 0 {
		length--
	}
	return asn1.BitString{Bytes: []byte{bits}, BitLength: length}
}

// sign returns the certificate of p, signed by issuerKey in the name of issuer.
func (p profile) sign(tb testing.TB, issuer []byte, issuerKey *Key) authority {
	tb.Helper()
	algorithm := issuerKey.algorithm(p.digest)
	body := encode(tb, toBeSigned{
		Version: p.version - 1, Serial: p.serial, Algorithm: raw(algorithm), Issuer: raw(issuer),
		Validity: validity{p.from.UTC().Truncate(time.Second), p.until.UTC().Truncate(time.Second)},
		Subject:  raw(p.name), PublicKey: raw(p.key.spki), Extensions: p.encodeExtensions(tb, issuerKey),
	})
	signature := issuerKey.sign(tb, body, p.digest)
	der := encode(tb, signedCertificate{raw(body), raw(algorithm), asn1.BitString{Bytes: signature, BitLength: 8 * len(signature)}})
	return authority{profile: p, der: der}
}
