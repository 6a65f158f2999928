// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"

	"github.com/rekey/rekey/internal/fault"
)

// supportedKeys lists what to use instead of a key that is refused.
const supportedKeys = "use RSA (2048 to 8192 bits), ECDSA on P-256, P-384 or P-521, or Ed25519"

// outline is the part of a certificate that can be read without support for any algorithm.
type outline struct {
	TBS struct {
		Version   int `asn1:"optional,explicit,default:0,tag:0"`
		Serial    *big.Int
		Signature pkix.AlgorithmIdentifier
		Issuer    asn1.RawValue
		Validity  asn1.RawValue
		Subject   asn1.RawValue
		PublicKey struct {
			Algorithm pkix.AlgorithmIdentifier
			Key       asn1.BitString
		}
	}
	Algorithm pkix.AlgorithmIdentifier
	Signature asn1.BitString
}

func readOutline(der []byte) (outline, error) {
	var out outline
	rest, err := asn1.Unmarshal(der, &out)
	if err == nil && len(rest) > 0 {
		err = errors.New("trailing data")
	}
	return out, err
}

// Object identifiers of elliptic curve keys, of the curves and of the other keys that Go can read, and the names of those
// that it cannot use.
var (
	oidEC       = asn1.ObjectIdentifier{1, 2, 840, 10045, 2, 1}
	oidsCurves  = []asn1.ObjectIdentifier{{1, 2, 840, 10045, 3, 1, 7}, {1, 3, 132, 0, 34}, {1, 3, 132, 0, 35}, {1, 3, 132, 0, 33}}
	oidsGoodKey = []asn1.ObjectIdentifier{{1, 2, 840, 113549, 1, 1, 1}, {1, 3, 101, 112}, {1, 3, 101, 110}}
	algorithms  = map[string]string{
		"1.2.840.113549.1.1.10":   "RSA-PSS",
		"1.2.840.113549.1.1.2":    "MD2 with RSA",
		"1.2.840.113549.1.1.7":    "RSA-OAEP",
		"1.2.840.113549.1.1.14":   "SHA-224 with RSA",
		"1.2.840.10045.4.3.1":     "ECDSA with SHA-224",
		"1.2.840.10040.4.1":       "DSA",
		"1.2.840.10046.2.1":       "Diffie-Hellman",
		"1.3.101.111":             "X448",
		"1.3.101.113":             "Ed448",
		"1.2.643.7.1.1.1.1":       "GOST R 34.10-2012",
		"1.2.643.7.1.1.1.2":       "GOST R 34.10-2012",
		"1.2.156.10197.1.301":     "SM2",
		"1.2.156.10197.1.501":     "SM2 with SM3",
		"1.3.132.0.10":            "secp256k1",
		"1.3.132.0.31":            "secp192k1",
		"1.2.840.10045.3.1.1":     "P-192",
		"1.3.36.3.3.2.8.1.1.7":    "brainpoolP256r1",
		"1.3.36.3.3.2.8.1.1.8":    "brainpoolP256t1",
		"1.3.36.3.3.2.8.1.1.9":    "brainpoolP320r1",
		"1.3.36.3.3.2.8.1.1.11":   "brainpoolP384r1",
		"1.3.36.3.3.2.8.1.1.12":   "brainpoolP384t1",
		"1.3.36.3.3.2.8.1.1.13":   "brainpoolP512r1",
		"1.3.36.3.3.2.8.1.1.14":   "brainpoolP512t1",
		"2.16.840.1.101.3.4.3.17": "ML-DSA-44",
		"2.16.840.1.101.3.4.3.18": "ML-DSA-65",
		"2.16.840.1.101.3.4.3.19": "ML-DSA-87",
	}
)

// nameOfOID formats an object identifier, with its name if it is known.
func nameOfOID(oid asn1.ObjectIdentifier) string {
	if name, known := algorithms[oid.String()]; known {
		return fmt.Sprintf("%s (%s)", name, oid)
	}
	return "the object identifier " + oid.String()
}

func contains(list []asn1.ObjectIdentifier, oid asn1.ObjectIdentifier) bool {
	for _, known := range list {
		if known.Equal(oid) {
			return true
		}
	}
	return false
}

// unsupportedKey returns an error that names the algorithm of a key that Go cannot use, and nil for other keys. It checks
// only the identifier.
func unsupportedKey(algorithm pkix.AlgorithmIdentifier) error {
	if !algorithm.Algorithm.Equal(oidEC) {
		if contains(oidsGoodKey, algorithm.Algorithm) || len(algorithm.Algorithm) == 0 {
			return nil
		}
		return unsupported("has a key of the algorithm %s, which Go's TLS does not support: %s", nameOfOID(algorithm.Algorithm), supportedKeys)
	}
	var curve asn1.ObjectIdentifier
	if _, err := asn1.Unmarshal(algorithm.Parameters.FullBytes, &curve); err != nil {
		if algorithm.Parameters.Tag == asn1.TagSequence {
			return unsupported("has an ECDSA key whose curve is written out as explicit parameters, which Go's TLS does not support: name the curve (openssl: -pkeyopt ec_param_enc:named_curve), and %s", supportedKeys)
		}
		return nil
	}
	return unsupportedCurve(curve)
}

func unsupportedCurve(curve asn1.ObjectIdentifier) error {
	if contains(oidsCurves, curve) {
		return nil
	}
	return unsupported("has an ECDSA key on the curve %s, which Go's TLS does not support: %s", nameOfOID(curve), supportedKeys)
}

func unsupported(format string, args ...any) error {
	return fault.Permanent(fault.UnsupportedAlgorithm, fmt.Errorf(format, args...))
}

// unreadable explains why Go cannot read a certificate with a sound outline: the certificate is not damaged, and other
// software may be able to read it.
func unreadable(read outline, cause error) error {
	if err := unsupportedKey(read.TBS.PublicKey.Algorithm); err != nil {
		return err
	}
	if cause == nil {
		return unsupported("has a key of the algorithm %s, which cannot sign: %s", nameOfOID(read.TBS.PublicKey.Algorithm.Algorithm), supportedKeys)
	}
	if read.TBS.Serial.Sign() < 0 {
		return errors.New("has a negative serial number, which Go refuses (RFC 5280, section 4.1.2.2): issue it again with a positive one")
	}
	return fmt.Errorf("cannot be read by Go, which rekey verifies with: %w", cause)
}

// unsupportedKeyBlock returns an error that names the algorithm of a private key that Go cannot use, taken from the data
// next to the key. It returns nil if the block is damaged or Go supports the algorithm.
func unsupportedKeyBlock(block *pem.Block) error {
	switch block.Type {
	case labelPKCS8:
		var key struct {
			Version   int
			Algorithm pkix.AlgorithmIdentifier
			Key       []byte
		}
		if _, err := asn1.Unmarshal(block.Bytes, &key); err == nil {
			return unsupportedKey(key.Algorithm)
		}
	case labelSEC1:
		var key struct {
			Version    int
			Key        []byte
			Parameters asn1.RawValue `asn1:"optional,explicit,tag:0"`
		}
		var parameters asn1.RawValue
		if _, err := asn1.Unmarshal(block.Bytes, &key); err == nil && len(key.Parameters.Bytes) > 0 {
			if _, err := asn1.Unmarshal(key.Parameters.Bytes, &parameters); err == nil {
				return unsupportedKey(pkix.AlgorithmIdentifier{Algorithm: oidEC, Parameters: parameters})
			}
		}
	}
	return nil
}
