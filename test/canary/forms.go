// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"slices"
	"strings"
)

const (
	// shortest is the minimum length of a line of a key to search for: shorter ones could occur by chance.
	shortest = 24
	// window is the searched part of a long secret in an encoding without lines. It is taken from the middle: the start is
	// the same in every key.
	window = 24
)

// forms returns the texts in which a secret could appear: unchanged, line by line, escaped for JSON (once, and again as a
// text within a text) and for URLs, in base64 at every alignment, in hexadecimal, and as Go prints bytes. Of a private key
// also its DER and its secret numbers.
func forms(secret []byte) []string {
	if len(secret) == 0 {
		return nil
	}
	out := textForms(string(secret))
	for _, raw := range append(numbers(secret), secret) {
		out = append(out, binaryForms(raw)...)
	}
	for _, raw := range numbers(secret) {
		out = append(out, string(middleOf(raw)), new(big.Int).SetBytes(raw).String())
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func textForms(secret string) []string {
	out := []string{}
	lines := []string{secret}
	for line := range strings.SplitSeq(secret, "\n") {
		if line = strings.TrimSpace(line); len(line) >= shortest && !strings.HasPrefix(line, "-----") {
			lines = append(lines, line)
		}
	}
	for _, line := range lines {
		once := inJSON(line)
		out = append(out, line, once, inJSON(once), url.QueryEscape(line), url.PathEscape(line), strings.ReplaceAll(line, "'", "''"))
	}
	return out
}

// inJSON returns a text as it stands between the quotes.
func inJSON(text string) string {
	quoted, err := json.Marshal(text)
	if err != nil {
		return text
	}
	return string(quoted[1 : len(quoted)-1])
}

// binaryForms returns encodings of the middle of a long secret, or of the whole of a short one.
func binaryForms(secret []byte) []string {
	middle := middleOf(secret)
	lower := hex.EncodeToString(middle)
	out := []string{lower, strings.ToUpper(lower), strings.Trim(fmt.Sprintf("%d", middle), "[]"), colons(lower)}
	// The preceding bytes decide the alignment, and the following ones the last character.
	for shift := range 3 {
		whole := middle[min(shift, len(middle)):]
		whole = whole[:len(whole)/3*3]
		for _, encoding := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
			if text := encoding.EncodeToString(whole); len(text) >= keyLength {
				out = append(out, text)
			}
		}
	}
	return out
}

func middleOf(secret []byte) []byte {
	if len(secret) <= 2*window {
		return secret
	}
	start := len(secret)/2 - window/2
	return secret[start : start+window]
}

// colons returns hexadecimal as openssl prints it.
func colons(text string) string {
	var pairs []string
	for i := 0; i+1 < len(text); i += 2 {
		pairs = append(pairs, text[i:i+2])
	}
	return strings.Join(pairs, ":")
}

// numbers returns the secrets of a private key in PEM: its DER, its scalar, seed or primes, without any wrapping.
func numbers(secret []byte) [][]byte {
	block, _ := pem.Decode(secret)
	if block == nil {
		return nil
	}
	out := [][]byte{block.Bytes}
	switch key := parsed(block.Bytes).(type) {
	case *ecdsa.PrivateKey:
		if scalar, err := key.Bytes(); err == nil {
			out = append(out, scalar)
		}
	case ed25519.PrivateKey:
		out = append(out, key.Seed())
	case *rsa.PrivateKey:
		out = append(out, key.D.Bytes())
		for _, prime := range key.Primes {
			out = append(out, prime.Bytes())
		}
	}
	return out
}

func parsed(der []byte) any {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key
	}
	if key, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return key
	}
	return nil
}
