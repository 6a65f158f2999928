// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package material

import (
	"bytes"
	"encoding/pem"
	"errors"
	"fmt"
)

// The PEM labels (RFC 7468, section 4) that are read or written.
const (
	labelCertificate  = "CERTIFICATE"
	labelRequest      = "CERTIFICATE REQUEST"
	labelPKCS8        = "PRIVATE KEY"
	labelPKCS1        = "RSA PRIVATE KEY"
	labelSEC1         = "EC PRIVATE KEY"
	labelECParameters = "EC PARAMETERS"
	labelEncrypted    = "ENCRYPTED PRIVATE KEY"
)

var pemBegin = []byte("-----BEGIN ")

// decodePEM splits data into its blocks. Explanatory text before a block is allowed (RFC 7468, section 2); a block that
// cannot be decoded is not passed over in silence, as pem.Decode does, or a member of a chain could get lost; and
// nothing but white space may follow the last block. The errors show nothing of the data, which may be a key.
func decodePEM(data []byte, maxBytes, maxBlocks int) ([]*pem.Block, error) {
	if len(data) > maxBytes {
		return nil, fmt.Errorf("is %d bytes long; at most %d are read", len(data), maxBytes)
	}
	var blocks []*pem.Block
	rest := data
	for len(bytes.TrimSpace(rest)) > 0 {
		if len(blocks) == maxBlocks {
			return nil, fmt.Errorf("goes on after %d PEM block(s), which is all that may be there", maxBlocks)
		}
		block, after := pem.Decode(rest)
		if block == nil {
			if len(blocks) == 0 {
				return nil, errors.New("holds no PEM block")
			}
			return nil, fmt.Errorf("has something that is not PEM after block %d", len(blocks))
		}
		if consumed := rest[:len(rest)-len(after)]; bytes.Count(consumed, pemBegin) != 1 {
			return nil, fmt.Errorf("has a damaged PEM block at place %d", len(blocks)+1)
		}
		blocks = append(blocks, block)
		rest = after
	}
	if len(blocks) == 0 {
		return nil, errors.New("is empty")
	}
	return blocks, nil
}
