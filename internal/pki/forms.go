// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"strings"
)

// Formats in which certificates and keys are often stored by mistake, each with the command that converts it to PEM. FILE
// stands for the user's file. The data itself is never shown.
const (
	formUTF16    = "it is UTF-16 text: convert it with `iconv -f UTF-16 -t UTF-8 FILE`"
	formEscaped  = `its line breaks are the two characters \n: write them as line breaks with ` + "`printf '%b' \"$(cat FILE)\"`"
	formJoined   = "its lines are joined into one: BEGIN line, base64 and END line must be on lines of their own"
	formCR       = "its lines end with a carriage return alone: convert it with `tr '\\r' '\\n' < FILE`"
	formIndented = "its lines are indented: remove the blanks with `sed 's/^[[:blank:]]*//' FILE`"
	formTwice    = "it is base64 of a PEM file (encoded twice in the Secret): decode it with `base64 -d FILE`"
	formBare     = "it is base64 without BEGIN and END lines: convert it with `base64 -d FILE | openssl x509 -inform DER` (or `openssl pkey -inform DER` for a key)"
	formPKCS12   = "it is a PKCS#12 file: convert it with `openssl pkcs12 -in FILE -nodes`"
	formPKCS7    = "it is PKCS#7 in DER: convert it with `openssl pkcs7 -inform DER -in FILE -print_certs`"
	formDERCert  = "it is a certificate in DER: convert it with `openssl x509 -inform DER -in FILE`"
	formDERKey   = "it is a private key in DER: convert it with `openssl pkey -inform DER -in FILE`"
	formDER      = "it is DER: convert it to PEM with openssl"
	formJKS      = "it is a Java keystore: convert it with `keytool -importkeystore -srckeystore FILE -destkeystore out.p12 -deststoretype PKCS12`, then with `openssl pkcs12`"
	formGlued    = "two blocks follow each other without a line break: start a new line before each -----BEGIN"
)

// oidSignedData is the content type of PKCS#7 files (RFC 2315, section 14).
var oidSignedData = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 7, 2}

// formOf recognizes the format of a whole file that is not PEM. It returns "" if it does not know the format.
func formOf(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte{0xff, 0xfe}), bytes.HasPrefix(data, []byte{0xfe, 0xff}), looksLikeUTF16(data):
		return formUTF16
	case bytes.HasPrefix(data, []byte{0xfe, 0xed, 0xfe, 0xed}), bytes.HasPrefix(data, []byte{0xce, 0xce, 0xce, 0xce}):
		return formJKS
	case len(data) > 1 && data[0] == 0x30 && (data[1]&0x80 != 0 || int(data[1]) == len(data)-2):
		return formOfDER(data)
	case bytes.Contains(data, pemBegin):
		return ""
	}
	decoded, err := base64.StdEncoding.DecodeString(string(bytes.Join(bytes.Fields(data), nil)))
	switch {
	case err != nil || len(decoded) < 2:
		return ""
	case bytes.Contains(decoded, pemBegin):
		return formTwice
	case decoded[0] == 0x30 && decoded[1]&0x80 != 0:
		return formBare
	}
	return ""
}

// looksLikeUTF16 reports whether the letters of "BEGIN" occur with a zero byte between them.
func looksLikeUTF16(data []byte) bool {
	return bytes.Contains(data, []byte("B\x00E\x00G\x00I\x00N"))
}

func formOfDER(data []byte) string {
	var outer, first asn1.RawValue
	if _, err := asn1.Unmarshal(data, &outer); err != nil || outer.Tag != asn1.TagSequence {
		return formDER
	}
	if _, err := asn1.Unmarshal(outer.Bytes, &first); err != nil {
		return formDER
	}
	var oid asn1.ObjectIdentifier
	var version int
	switch first.Tag {
	case asn1.TagOID:
		if _, err := asn1.Unmarshal(first.FullBytes, &oid); err == nil && oid.Equal(oidSignedData) {
			return formPKCS7
		}
	case asn1.TagInteger:
		if _, err := asn1.Unmarshal(first.FullBytes, &version); err == nil && version == 3 {
			return formPKCS12
		}
		return formDERKey
	case asn1.TagSequence:
		if _, err := readOutline(data); err == nil {
			return formDERCert
		}
	}
	return formDER
}

// faultOfBlock returns what is wrong with the first block in rest that cannot be decoded.
func faultOfBlock(rest []byte) string {
	const tail = "-----"
	for at := bytes.Index(rest, pemBegin); at >= 0; {
		before, text := rest[:at], rest[at+len(pemBegin):]
		label, body, found := strings.Cut(string(text[:min(len(text), 4096)]), tail)
		if !found || strings.ContainsAny(label, "\r\n") {
			return "its BEGIN line does not end in " + tail
		}
		next := len(text)
		if i := bytes.Index(text, pemBegin); i >= 0 {
			next = i
		}
		if found := faultOfLines(before, label, body, text[:next]); found != "" {
			return found
		}
		if next == len(text) {
			break
		}
		rest, at = text, next
	}
	return "its base64 is damaged"
}

// faultOfLines checks one block: the text before its BEGIN line, the text after that line, and everything up to the next
// block.
func faultOfLines(before []byte, label, body string, block []byte) string {
	line := before[bytes.LastIndexByte(before, '\n')+1:]
	switch {
	case bytes.HasSuffix(line, []byte(`\n`)) || strings.HasPrefix(body, `\n`) || strings.HasPrefix(body, `\r`):
		return formEscaped
	case bytes.HasSuffix(bytes.TrimRight(line, " \t"), []byte("-----")):
		return formGlued
	case len(line) > 0 && len(bytes.TrimSpace(line)) == 0:
		return formIndented
	case strings.HasPrefix(body, "\r") && !strings.HasPrefix(body, "\r\n"):
		return formCR
	case body != "" && strings.IndexByte("\r\n \t", body[0]) < 0 || strings.HasPrefix(strings.TrimLeft(body, " \t"), "M"):
		return formJoined
	case !bytes.Contains(block, []byte("-----END ")):
		return "its END line is missing: the file may have been cut short"
	case !bytes.Contains(block, []byte("-----END "+label+"-----")):
		return "its END line does not name what its BEGIN line names"
	}
	return ""
}

// labels maps the known PEM labels that are not the expected one to how to fix each.
var labels = map[string]string{
	"TRUSTED CERTIFICATE":        "OpenSSL's own form of a certificate, with trust settings that other software does not read: convert each with `openssl x509 -in FILE`",
	"PKCS7":                      "PKCS#7: convert it with `openssl pkcs7 -in FILE -print_certs`",
	"CMS":                        "CMS: convert it with `openssl pkcs7 -in FILE -print_certs`",
	labelRequest:                 "a request for a certificate: put the certificate there",
	"NEW CERTIFICATE REQUEST":    "a request for a certificate: put the certificate there",
	"X509 CRL":                   "a revocation list: remove it",
	"PUBLIC KEY":                 "a public key without a certificate: remove it",
	"RSA PUBLIC KEY":             "a public key without a certificate: remove it",
	"DH PARAMETERS":              "parameters, not a certificate: remove them",
	labelECParameters:            "parameters of a key: remove them",
	labelPKCS8:                   "a private key: remove it",
	labelPKCS1:                   "a private key: remove it",
	labelSEC1:                    "a private key: remove it",
	labelEncrypted:               "a private key: remove it",
	"DSA PRIVATE KEY":            "a private key: remove it",
	"OPENSSH PRIVATE KEY":        "an OpenSSH private key: remove it",
	"ATTRIBUTE CERTIFICATE":      "an attribute certificate: remove it",
	"PGP PUBLIC KEY BLOCK":       "a PGP key: remove it",
	"PGP PRIVATE KEY BLOCK":      "a PGP key: remove it",
	"SSH2 ENCRYPTED PRIVATE KEY": "an SSH private key: remove it",
}

// otherBlock returns an error about a block that is not a certificate. It shows only known labels: anything else may be a
// secret.
func otherBlock(label string, place int) error {
	if what, known := labels[label]; known {
		return fmt.Errorf("has a PEM block other than a certificate at position %d, %s, which is %s", place, label, what)
	}
	return fmt.Errorf("has a PEM block other than a certificate at position %d: put only certificates there", place)
}
