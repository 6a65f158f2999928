// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package oddfiles

import (
	"bytes"
	"encoding/base64"
	"encoding/pem"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"unicode/utf16"
)

// textForm is the way in which a file holds certificates. The zero value leaves them as they are.
type textForm struct {
	name   string
	change func(m *maker, data []byte) []byte
	cause  string
	policy string
}

func (f textForm) apply(m *maker, data []byte) []byte {
	if f.change == nil || len(data) == 0 {
		return data
	}
	return f.change(m, data)
}

const (
	begin = "-----BEGIN CERTIFICATE-----"
	end   = "-----END CERTIFICATE-----"
)

func simply(change func(string) string) func(*maker, []byte) []byte {
	return func(_ *maker, data []byte) []byte { return []byte(change(string(data))) }
}

func replacing(pairs ...string) func(*maker, []byte) []byte {
	return simply(strings.NewReplacer(pairs...).Replace)
}

// textForms are the ways in which users store certificates.
func textForms() []textForm {
	forms := slices.Concat([]textForm{
		{name: "has CRLF", change: replacing("\n", "\r\n")},
		{name: "has no line break at the end", change: simply(strings.TrimSpace)},
		{name: "has blank lines between", change: replacing(begin, "\n\n"+begin)},
		{name: "has text in front", change: simply(func(s string) string { return "# Example PKI, 2027\nissued for: ops\n" + s })},
		{name: "has text at the end", change: simply(func(s string) string { return s + "# end of chain\n" })},
		{name: "has text between", change: replacing(end, end+"\nsubject=/CN=x\nissuer=/CN=y")},
		{name: "is a PKCS#12 dump", change: replacing(begin, "Bag Attributes\n    localKeyID: 01 02 \n    friendlyName: ca\nsubject=CN = x\n\nissuer=CN = y\n\n"+begin)},
		{name: "has trailing spaces on each line", change: replacing("\n", "  \n")},
		{name: "has text that starts with dashes", change: replacing(begin, "----- Example -----\n"+begin)},
		{name: "is printed with openssl x509 -text", change: printed},
		{name: "has its base64 on one line", change: onOneLine},
		{name: "has many blank lines at the end", change: simply(func(s string) string { return s + strings.Repeat("\n", 200) })},
	}, mangled(), others())
	return forms
}

// mangled are files that a tool or an editor has broken.
func mangled() []textForm {
	return []textForm{
		{name: "starts with a byte order mark", cause: `(?i)byte order mark`, change: simply(func(s string) string { return "\ufeff" + s })},
		{name: "is UTF-16", cause: `UTF-16`, change: func(_ *maker, data []byte) []byte {
			out := []byte{0xff, 0xfe}
			for _, unit := range utf16.Encode([]rune(string(data))) {
				out = append(out, byte(unit), byte(unit>>8))
			}
			return out
		}},
		{name: "is indented", cause: `(?i)indent|white space`, change: simply(func(s string) string { return "    " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n    ") + "\n" })},
		{name: `has \n as two characters`, cause: `(?i)line break`, change: replacing("\n", `\n`)},
		{name: "is on one line", cause: `(?i)line`, change: replacing("\n", " ")},
		{name: "is encoded as base64 twice", cause: `(?i)base64`, change: func(_ *maker, data []byte) []byte {
			return []byte(base64.StdEncoding.EncodeToString(data))
		}},
		{name: "is DER", cause: `DER`, change: func(_ *maker, data []byte) []byte {
			block, _ := pem.Decode(data)
			return block.Bytes
		}},
		{name: "has no line break between two certificates", cause: `(?i)line`, change: replacing(end+"\n"+begin, end+begin)},
		{name: "has an END line of four dashes", cause: `(?i)damaged|PEM`, change: replacing(end, "----END CERTIFICATE----")},
		{name: "has a bit that is not base64", cause: `(?i)damaged|base64|PEM`, change: replacing(begin+"\nMII", begin+"\nM!I")},
		{name: "is cut short", cause: `(?i)damaged|cut short|PEM`, policy: "a truncated file may lack what matters", change: simply(func(s string) string { return s[:len(s)-len(s)/4] })},
	}
}

// others have blocks other than certificates.
func others() []textForm {
	relabeled := func(label string) func(*maker, []byte) []byte {
		return replacing(" CERTIFICATE-----", " "+label+"-----")
	}
	return []textForm{
		{name: "has the label X509 CERTIFICATE", cause: `X509 CERTIFICATE`, change: relabeled("X509 CERTIFICATE")},
		{name: "has the label TRUSTED CERTIFICATE", cause: `TRUSTED CERTIFICATE`, change: relabeled("TRUSTED CERTIFICATE")},
		{name: "has trust settings (TRUSTED CERTIFICATE)", cause: `TRUSTED CERTIFICATE`, change: trusting},
		{name: "is PKCS#7", cause: `PKCS ?#?7`, change: func(m *maker, data []byte) []byte {
			folder := m.TempDir()
			if err := os.WriteFile(filepath.Join(folder, "in.pem"), data, 0o600); err != nil {
				m.Fatal(err)
			}
			return openssl(m, folder, "crl2pkcs7", "-nocrl", "-certfile", "in.pem")
		}},
		{name: "has a private key after it", cause: `PRIVATE KEY`, policy: "a private key does not belong among certificates", change: func(m *maker, data []byte) []byte {
			return append(bytes.Clone(data), m.key(P256, keyOfOthers).PEM...)
		}},
		{name: "has parameters after it", cause: `DH PARAMETERS|EC PARAMETERS`, policy: "only certificates may be among certificates", change: func(_ *maker, data []byte) []byte {
			return append(bytes.Clone(data), "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n"...)
		}},
	}
}

// onOneLine does not break the base64 of each block.
func onOneLine(_ *maker, data []byte) []byte {
	var out bytes.Buffer
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		out.WriteString(begin + "\n" + base64.StdEncoding.EncodeToString(block.Bytes) + "\n" + end + "\n")
	}
	return out.Bytes()
}

// eachBlock passes every certificate to openssl x509.
func eachBlock(m *maker, data []byte, args ...string) []byte {
	folder := m.TempDir()
	var out []byte
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if err := os.WriteFile(filepath.Join(folder, "in.pem"), pem.EncodeToMemory(block), 0o600); err != nil {
			m.Fatal(err)
		}
		out = append(out, openssl(m, folder, append([]string{"x509", "-in", "in.pem"}, args...)...)...)
	}
	return out
}

func printed(m *maker, data []byte) []byte { return eachBlock(m, data, "-text") }

func trusting(m *maker, data []byte) []byte {
	return eachBlock(m, data, "-trustout", "-addtrust", "serverAuth", "-addtrust", "clientAuth", "-setalias", "ca")
}

// keyForm is the way in which a private key is stored. The zero value is PKCS#8.
type keyForm struct {
	name string
	// algorithm is the kind of key; any if empty.
	algorithm Algorithm
	change    func(m *maker, key *Key) []byte
	cause     string
	policy    string
}

func (f keyForm) apply(m *maker, key *Key) []byte {
	if f.change == nil {
		return key.PEM
	}
	return f.change(m, key)
}

func ofKey(change func(string) string) func(*maker, *Key) []byte {
	return func(_ *maker, key *Key) []byte { return []byte(change(string(key.PEM))) }
}

func converted(args ...string) func(*maker, *Key) []byte {
	return func(m *maker, key *Key) []byte { return openssl(m, key.folder, args...) }
}

// keyForms are the ways in which users store keys.
func keyForms() []keyForm {
	const onlyKey = "tls.key holds the key and nothing else"
	return []keyForm{
		{name: "is PKCS#1", algorithm: RSA, change: converted("rsa", "-in", "key.pem", "-traditional")},
		{name: "is SEC1", algorithm: P256, change: converted("ec", "-in", "key.pem")},
		{name: "is SEC1 after its parameters", algorithm: P384, change: func(m *maker, key *Key) []byte {
			return append([]byte("-----BEGIN EC PARAMETERS-----\nBgUrgQQAIg==\n-----END EC PARAMETERS-----\n"), openssl(m, key.folder, "ec", "-in", "key.pem")...)
		}},
		{name: "is SEC1 of P-521", algorithm: P521, change: converted("ec", "-in", "key.pem")},
		{name: "is Ed25519", algorithm: Ed25519},
		{name: "is a PKCS#12 dump", change: ofKey(func(s string) string {
			return "Bag Attributes\n    localKeyID: 01 02 \nKey Attributes: <No Attributes>\n" + s
		})},
		{name: "has CRLF", change: ofKey(func(s string) string { return strings.ReplaceAll(s, "\n", "\r\n") })},
		{name: "has no line break at the end", change: ofKey(strings.TrimSpace)},
		{name: "has text at the end", change: ofKey(func(s string) string { return s + "# end\n" })},
		{name: "starts with a byte order mark", cause: `(?i)byte order mark`, change: ofKey(func(s string) string { return "\ufeff" + s })},
		{name: "is indented", cause: `(?i)indent|white space`, change: ofKey(func(s string) string { return "  " + strings.ReplaceAll(strings.TrimSpace(s), "\n", "\n  ") })},
		{name: "is on one line", cause: `(?i)line`, change: ofKey(func(s string) string { return strings.ReplaceAll(s, "\n", " ") })},
		{name: "is DER", cause: `DER`, change: func(m *maker, key *Key) []byte {
			return openssl(m, key.folder, "pkey", "-in", "key.pem", "-outform", "DER")
		}},
		{name: "is encrypted as PKCS#8", cause: `encrypted`, change: converted("pkcs8", "-topk8", "-in", "key.pem", "-passout", "pass:hunter2")},
		{name: "is encrypted as PKCS#1", algorithm: RSA, cause: `encrypted`, change: converted("rsa", "-in", "key.pem", "-traditional", "-aes128", "-passout", "pass:hunter2")},
		{name: "is a public key", cause: `not a private key`, change: converted("pkey", "-in", "key.pem", "-pubout")},
		{name: "is before its certificate", cause: `another PEM block|CERTIFICATE`, policy: onlyKey, change: func(m *maker, key *Key) []byte {
			return append(bytes.Clone(key.PEM), m.other("Other CA").pem()...)
		}},
		{name: "is duplicated", cause: `another PEM block|twice`, policy: onlyKey, change: ofKey(func(s string) string { return s + s })},
		{name: "is empty", cause: `(?i)empty|missing`, change: ofKey(func(string) string { return "" })},
		{name: "is cut short", cause: `(?i)damaged|cut short|PEM`, change: ofKey(func(s string) string { return s[:len(s)/2] })},
		{name: "is of another pair", cause: notKeyOf, policy: "the key must be that of the first certificate", change: func(m *maker, _ *Key) []byte { return m.key(P256, keyOfOthers).PEM }},
	}
}
