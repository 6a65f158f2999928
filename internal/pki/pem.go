// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
)

// The PEM labels (RFC 7468, section 4) that are read or written.
const (
	labelCertificate  = "CERTIFICATE"
	labelX509         = "X509 CERTIFICATE" // an old name for the same
	labelRequest      = "CERTIFICATE REQUEST"
	labelPKCS8        = "PRIVATE KEY"
	labelPKCS1        = "RSA PRIVATE KEY"
	labelSEC1         = "EC PRIVATE KEY"
	labelECParameters = "EC PARAMETERS"
	labelEncrypted    = "ENCRYPTED PRIVATE KEY"
)

var (
	pemBegin = []byte("-----BEGIN ")
	utf8Mark = []byte("\xef\xbb\xbf")
)

// pemRules control how much of a file is read, and how strictly.
type pemRules struct {
	maxBytes, maxBlocks int
	// lenient is for files from users: a byte order mark before the first block and text after the last one are skipped, as
	// OpenSSL skips text.
	lenient bool
}

// decodePEM splits data into its blocks. Explanatory text before a block is allowed (RFC 7468, section 2). Unlike
// pem.Decode, it does not silently skip a block that cannot be decoded, because a certificate of a chain could get lost.
// Unless lenient is set, only white space may follow the last block. The errors name the format that the data seems to have,
// and show nothing of the data, which may be a key.
func decodePEM(data []byte, rules pemRules) ([]*pem.Block, error) {
	if len(data) > rules.maxBytes {
		return nil, fmt.Errorf("is %d bytes long; at most %d are allowed", len(data), rules.maxBytes)
	}
	rest := data
	if rules.lenient {
		rest = bytes.TrimPrefix(rest, utf8Mark)
	}
	var blocks []*pem.Block
	for len(bytes.TrimSpace(rest)) > 0 {
		if rules.lenient && len(blocks) > 0 && !bytes.Contains(rest, pemBegin) {
			break
		}
		if len(blocks) == rules.maxBlocks {
			return nil, fmt.Errorf("continues after %d PEM block(s), the most that is allowed", rules.maxBlocks)
		}
		block, after := pem.Decode(rest)
		if block == nil {
			return nil, notPEM(data, rest, len(blocks))
		}
		if consumed := rest[:len(rest)-len(after)]; bytes.Count(consumed, pemBegin) != 1 {
			return nil, damagedBlock(data, rest, len(blocks)+1)
		}
		blocks = append(blocks, block)
		rest = after
	}
	if len(blocks) == 0 {
		return nil, errors.New("is empty")
	}
	return blocks, nil
}

// notPEM explains why there is no further block in rest.
func notPEM(data, rest []byte, blocks int) error {
	form := formOf(data)
	switch {
	case form == "" && bytes.Contains(rest, pemBegin):
		form = faultOfBlock(rest)
	case form == "" && blocks == 0 && len(bytes.TrimSpace(data)) > 0:
		form = "a PEM block has a BEGIN line and an END line"
	}
	text := "holds no PEM block"
	if blocks > 0 {
		text = fmt.Sprintf("has something that is not PEM after block %d", blocks)
	}
	if form != "" {
		text += ": " + form
	}
	return errors.New(text)
}

func damagedBlock(data, rest []byte, place int) error {
	form := formOf(data)
	if form == "" {
		form = faultOfBlock(rest)
	}
	return fmt.Errorf("has a damaged PEM block at position %d: %s", place, form)
}
