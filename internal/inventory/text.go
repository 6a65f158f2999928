// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
)

var (
	pemBegin = []byte("-----BEGIN ")
	pemEnd   = []byte("-----END ")
	pemDash  = []byte("-----")
)

// embedded matches base64 of PEM in the fields of a kubeconfig and of similar files, in YAML or JSON.
var embedded = regexp.MustCompile(`"?\b(certificate-authority-data|client-certificate-data|caBundle)"?[ \t]*:[ \t]*["']?([A-Za-z0-9+/]{64,}={0,2})`)

// readText reads the certificates in a text: its PEM blocks, and those in the fields of a kubeconfig. Damaged ones are an error, and
// the others are returned.
func readText(text []byte) ([]group, error) {
	var out []group
	certificates, err := readPEM(text)
	if len(certificates) > 0 {
		out = append(out, group{certificates: certificates})
	}
	for _, match := range embedded.FindAllSubmatch(text, maxCertificates) {
		field := string(match[1])
		decoded, fault := base64.StdEncoding.DecodeString(string(match[2]))
		if fault != nil {
			err = errors.Join(err, fmt.Errorf("has a field %s that is not base64: write the file again", field))
			continue
		}
		inside, fault := readPEM(decoded)
		if fault != nil {
			err = errors.Join(err, fmt.Errorf("has a field %s that %w", field, fault))
		}
		if len(inside) > 0 {
			out = append(out, group{entry: field, certificates: inside})
		}
	}
	return out, firstOf(err)
}

// firstOf returns the first of joined errors: a reason is one sentence.
func firstOf(err error) error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return firstOf(joined.Unwrap()[0])
	}
	return err
}

// readPEM reads every block with a certificate, wherever it starts. Blocks with other labels are skipped.
func readPEM(text []byte) ([]parsed, error) {
	var out []parsed
	damaged := 0
	for at := bytes.Index(text, pemBegin); at >= 0 && len(out) <= maxCertificates; at = bytes.Index(text, pemBegin) {
		block := text[at:]
		text = block[len(pemBegin):]
		if next := bytes.Index(text, pemBegin); next >= 0 {
			block = block[:len(pemBegin)+next]
		}
		switch label := labelOf(block); label {
		case "CERTIFICATE", "X509 CERTIFICATE", "TRUSTED CERTIFICATE":
			certificate, ok := readBlock(block, label)
			if !ok {
				damaged++
				continue
			}
			out = append(out, certificate)
		case "PKCS7", "CMS":
			return out, errors.New("has a PKCS#7 block, which is not read: convert it with openssl pkcs7 -print_certs")
		}
	}
	switch damaged {
	case 0:
		return out, nil
	case 1:
		return out, errors.New("has a damaged certificate in PEM: check it with openssl x509")
	}
	return out, fmt.Errorf("has %d damaged certificates in PEM: check them with openssl x509", damaged)
}

func labelOf(block []byte) string {
	label, _, _ := bytes.Cut(block[len(pemBegin):min(len(block), 64)], pemDash)
	return string(label)
}

// readBlock reads the block that starts the text. Lines may be indented, as in YAML, or separated by \n in two characters, as in JSON.
func readBlock(block []byte, label string) (parsed, bool) {
	end := bytes.Index(block, append(bytes.Clone(pemEnd), label+"-----"...))
	if end < 0 {
		return parsed{}, false
	}
	block = block[:end+len(pemEnd)+len(label)+len(pemDash)]
	block = bytes.ReplaceAll(bytes.ReplaceAll(block, []byte(`\r`), nil), []byte(`\n`), []byte("\n"))
	lines := bytes.FieldsFunc(block, func(r rune) bool { return r == '\n' || r == '\r' })
	for i, line := range lines {
		lines[i] = bytes.TrimSpace(line)
	}
	decoded, _ := pem.Decode(append(bytes.Join(lines, []byte("\n")), '\n'))
	if decoded == nil {
		return parsed{}, false
	}
	certificate, rest, err := parse(decoded.Bytes)
	// OpenSSL's own form has trust settings after the certificate.
	return certificate, err == nil && (len(rest) == 0 || label == "TRUSTED CERTIFICATE")
}
