// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"

	"software.sslmate.com/src/go-pkcs12"
)

// Tags in DER.
const (
	derInteger  = 0x02
	derBytes    = 0x04
	derNull     = 0x05
	derSequence = 0x30
	derExplicit = 0xa0
)

const (
	// maxDepth limits how deep the parameters of an algorithm are nested; those of PBES2 have four levels.
	maxDepth = 8
	// maxSafes limits the parts of a PKCS#12 file; OpenSSL and Java write two.
	maxSafes = 16
)

// Object identifiers of PKCS#12 (RFC 7292) and PKCS#5 (RFC 8018), in DER if they are written.
var (
	oidData      = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 1}
	oidEncrypted = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 6}
	oidCertBag   = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 12, 10, 1, 3}
	derData      = []byte{0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1}
	derKeyBag    = []byte{0x06, 11, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 1}
	derPBKDF2    = []byte{0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12}
	derPBMAC1    = []byte{0x06, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 14}
	derHMAC      = []byte{0x06, 8, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9} // with SHA-256
)

var errDamaged = errors.New("is a damaged PKCS#12 file: check it with openssl pkcs12 -info")

// pfx is a PKCS#12 file (RFC 7292, section 4).
type pfx struct {
	Version int
	Content contentInfo
	MAC     asn1.RawValue `asn1:"optional"`
}

// contentInfo is a part of one. Content is the explicit tag with the content inside.
type contentInfo struct {
	Type    asn1.ObjectIdentifier
	Content asn1.RawValue `asn1:"tag:0,explicit,optional"`
}

// encryptedData is an encrypted part.
type encryptedData struct {
	Version int
	Info    struct {
		Type      asn1.ObjectIdentifier
		Algorithm pkix.AlgorithmIdentifier
		Content   asn1.RawValue `asn1:"tag:0,optional"`
	}
}

// safeBag is an entry of a part that is not encrypted, or no longer.
type safeBag struct {
	ID         asn1.ObjectIdentifier
	Value      asn1.RawValue `asn1:"tag:0,explicit"`
	Attributes asn1.RawValue `asn1:"optional"`
}

// pkcs12 reads the certificates of a PKCS#12 file. Each encrypted part is handed to the decoder on its own, in a file with a key that
// everyone knows: the decoder accepts one key for each file, so it decrypts no key of the user's, whose work factor is hidden inside
// the encrypted part. The file's own MAC covers all parts and is not checked.
func (r *reader) pkcs12(value []byte) ([]group, error) {
	var file pfx
	var safes []asn1.RawValue
	content, err := contentOf(value, &file)
	if err == nil {
		err = unmarshal(content, &safes)
	}
	if err != nil || len(safes) > maxSafes {
		return nil, errDamaged
	}
	var all []parsed
	var problem error
	for _, safe := range safes {
		var part contentInfo
		if err := unmarshal(safe.FullBytes, &part); err != nil {
			return nil, errDamaged
		}
		var read []parsed
		switch {
		case part.Type.Equal(oidData):
			read, err = readPlainSafe(part)
		case part.Type.Equal(oidEncrypted):
			read, err = r.encryptedSafe(safe.FullBytes, part)
		default:
			err = errors.New("is encrypted for a public key, which is not read: convert it with openssl pkcs12")
		}
		if all = append(all, read...); err != nil {
			problem = err
		}
	}
	if len(all) == 0 {
		return nil, problem
	}
	return []group{{certificates: all}}, problem
}

// contentOf reads a file and returns its content, which must not be signed.
func contentOf(value []byte, file *pfx) (content []byte, err error) {
	if err := unmarshal(value, file); err != nil {
		return nil, err
	}
	if !file.Content.Type.Equal(oidData) {
		return nil, errDamaged
	}
	err = unmarshal(file.Content.Content.Bytes, &content)
	return content, err
}

// unmarshal reads a value that has nothing after it.
func unmarshal(der []byte, into any) error {
	rest, err := asn1.Unmarshal(der, into)
	if err == nil && len(rest) > 0 {
		err = errDamaged
	}
	return err
}

// readPlainSafe reads the certificates of a part that is not encrypted. Keys in it are encrypted on their own, and skipped.
func readPlainSafe(part contentInfo) ([]parsed, error) {
	var content []byte
	var bags []safeBag
	if unmarshal(part.Content.Bytes, &content) != nil || unmarshal(content, &bags) != nil {
		return nil, errDamaged
	}
	var out []parsed
	for _, bag := range bags {
		if !bag.ID.Equal(oidCertBag) {
			continue
		}
		var certificate struct {
			Type  asn1.ObjectIdentifier
			Value asn1.RawValue `asn1:"tag:0,explicit"`
		}
		var der []byte
		if unmarshal(bag.Value.Bytes, &certificate) != nil || unmarshal(certificate.Value.Bytes, &der) != nil {
			return out, errDamaged
		}
		read, rest, err := parse(der)
		if err != nil || len(rest) > 0 {
			return out, errDamaged
		}
		out = append(out, read)
	}
	return out, nil
}

// encryptedSafe reads the certificates of an encrypted part with the first password that fits.
func (r *reader) encryptedSafe(safe []byte, part contentInfo) ([]parsed, error) {
	var data encryptedData
	if err := unmarshal(part.Content.Bytes, &data); err != nil {
		return nil, errDamaged
	}
	cost, err := iterationsOf(data.Info.Algorithm.Parameters.FullBytes, maxDepth)
	if err != nil {
		return nil, err
	}
	passwords := []string{""}
	for _, password := range r.passwords {
		passwords = append(passwords, string(password.Reveal()))
	}
	for _, password := range passwords {
		if r.iterations -= cost; r.iterations < 0 {
			return nil, fmt.Errorf("is a PKCS#12 file with too many iterations (with the other keystores in the object, more than %d): write it again with fewer", maxIterations)
		}
		certificates, err := decrypt(safe, password)
		if _, unknown := errors.AsType[pkcs12.NotImplementedError](err); unknown {
			return nil, errors.New("is a PKCS#12 file with an encryption that is not read: write it again with openssl pkcs12 -export")
		}
		if err == nil {
			return readAll(certificates)
		}
	}
	if len(r.passwords) == 0 {
		return nil, errors.New("is an encrypted PKCS#12 file: name the Secret with its password in spec.keystorePasswords")
	}
	return nil, errors.New("is an encrypted PKCS#12 file, and none of spec.keystorePasswords opens it (or Go cannot read a certificate in it): add its password there")
}

func readAll(certificates []*x509.Certificate) ([]parsed, error) {
	var out []parsed
	for _, certificate := range certificates {
		read, _, err := parse(certificate.Raw)
		if err != nil {
			return out, errDamaged
		}
		out = append(out, read)
	}
	return out, nil
}

// iterationsOf returns the sum of the numbers in the parameters of an algorithm: the iterations, and the length of the key.
func iterationsOf(parameters []byte, depth int) (int, error) {
	total := 0
	for len(parameters) > 0 {
		var value asn1.RawValue
		rest, err := asn1.Unmarshal(parameters, &value)
		if err != nil || depth == 0 {
			return 0, errDamaged
		}
		parameters = rest
		cost := 0
		switch {
		case value.Class == asn1.ClassUniversal && value.Tag == asn1.TagInteger:
			if _, err = asn1.Unmarshal(value.FullBytes, &cost); err != nil || cost < 0 || cost > maxIterations {
				cost = maxIterations + 1
			}
		case value.IsCompound:
			if cost, err = iterationsOf(value.Bytes, depth-1); err != nil {
				return 0, err
			}
		}
		total = min(total+cost, maxIterations+1)
	}
	return total, nil
}

// knownKey is the private key that is put into every file for the decoder, in PKCS#8. It is that of 32 zero bytes, and protects nothing.
var knownKey = mustMarshal(ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize)))

func mustMarshal(key ed25519.PrivateKey) []byte {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err) // never with this type
	}
	return der
}

// decrypt decodes one encrypted part with a password.
func decrypt(safe []byte, password string) ([]*x509.Certificate, error) {
	keys := element(derSequence, element(derSequence, derKeyBag, element(derExplicit, knownKey)))
	content := element(derSequence,
		element(derSequence, derData, element(derExplicit, element(derBytes, keys))), // the first, so that any other key is one too many
		safe)
	var mac []byte
	if password != "" { // the decoder takes a file without a MAC for one without a password
		var err error
		if mac, err = macOf(content, password); err != nil {
			return nil, err
		}
	}
	file := element(derSequence, element(derInteger, []byte{3}), element(derSequence, derData, element(derExplicit, element(derBytes, content))), mac)
	_, first, others, err := pkcs12.DecodeChain(file, password)
	if err != nil {
		return nil, err
	}
	return append([]*x509.Certificate{first}, others...), nil
}

// macOf returns the MAC of a file's content (PBMAC1, RFC 9579), with a single iteration: it protects nothing.
func macOf(content []byte, password string) ([]byte, error) {
	salt := make([]byte, sha256.Size)
	key, err := pbkdf2.Key(sha256.New, password, salt, 1, sha256.Size)
	if err != nil {
		return nil, err
	}
	sum := hmac.New(sha256.New, key)
	_, _ = sum.Write(content) // never fails
	hash := element(derSequence, derHMAC, element(derNull))
	derivation := element(derSequence, derPBKDF2, element(derSequence,
		element(derBytes, salt), element(derInteger, []byte{1}), element(derInteger, []byte{sha256.Size}), hash))
	algorithm := element(derSequence, derPBMAC1, element(derSequence, derivation, hash))
	return element(derSequence, element(derSequence, algorithm, element(derBytes, sum.Sum(nil))), element(derBytes, salt)), nil
}
