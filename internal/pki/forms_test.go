// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"bytes"
	"encoding/base64"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf16"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/pki"
)

// openssl runs an openssl command in a folder.
func openssl(tb testing.TB, folder string, args ...string) []byte {
	tb.Helper()
	command := exec.CommandContext(tb.Context(), "openssl", args...)
	command.Dir = folder
	var complaints bytes.Buffer
	command.Stderr = &complaints
	out, err := command.Output()
	if err != nil {
		tb.Fatalf("openssl %s: %v: %s", strings.Join(args, " "), err, complaints.String())
	}
	return out
}

func store(tb testing.TB, folder, name string, data []byte) {
	tb.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), data, 0o600); err != nil {
		tb.Fatal(err)
	}
}

func wide(data []byte, mark bool) []byte {
	var out []byte
	if mark {
		out = []byte{0xff, 0xfe}
	}
	for _, unit := range utf16.Encode([]rune(string(data))) {
		out = append(out, byte(unit), byte(unit>>8))
	}
	return out
}

// Data that users store instead of PEM is recognized, with the way to convert it to PEM, and nothing of it is shown. What
// OpenSSL accepts is accepted.
// certificateForm is a file with the certificates middle and root, in that order.
type certificateForm struct {
	data []byte
	want string // empty: it is read, and holds both
}

func certificateForms(t *testing.T, root, middle signed) map[string]certificateForm {
	t.Helper()
	one, two := middle.pem(), root.pem()
	both := slices.Concat(one, two)
	folder := t.TempDir()
	store(t, folder, "both.pem", both)
	store(t, folder, "root.pem", two)
	store(t, folder, "root.key", root.key)
	store(t, folder, "root.der", root.certificate.Raw)
	run := func(args ...string) []byte { return openssl(t, folder, args...) }
	mark := []byte("\xef\xbb\xbf")
	trimmed := bytes.TrimSpace(one)
	return map[string]certificateForm{
		"as it is":                         {both, ""},
		"a byte order mark":                {slices.Concat(mark, both), ""},
		"Windows line ends":                {bytes.ReplaceAll(both, []byte("\n"), []byte("\r\n")), ""},
		"no last line break":               {bytes.TrimSpace(both), ""},
		"text around and between":          {slices.Concat([]byte("# middle\n"), one, []byte("\n# root\n"), two, []byte("# end of chain")), ""},
		"what openssl x509 -text writes":   {slices.Concat(run("x509", "-text", "-in", "both.pem"), run("x509", "-text", "-in", "root.pem")), ""},
		"what openssl s_client shows":      {slices.Concat([]byte("CONNECTED(00000003)\n---\n 0 s:CN = middle\n   i:CN = root\n"), one, []byte(" 1 s:CN = root\n"), two, []byte("---\nServer certificate\n")), ""},
		"each twice":                       {slices.Concat(both, both), ""},
		"the old label":                    {bytes.ReplaceAll(both, []byte(" CERTIFICATE"), []byte(" X509 CERTIFICATE")), ""},
		"attributes of PKCS#12":            {slices.Concat([]byte("Bag Attributes\n    localKeyID: 01\nsubject=CN = middle\n\nissuer=CN = root\n\n"), one, []byte("Bag Attributes: <No Attributes>\n"), two), ""},
		"nothing":                          {nil, "is empty"},
		"white space":                      {[]byte("\n \n"), "is empty"},
		"something else":                   {[]byte("hunter2"), "holds no PEM block: a PEM block has a BEGIN line"},
		"UTF-16":                           {wide(both, true), "UTF-16"},
		"UTF-16 without its mark":          {wide(both, false), "UTF-16"},
		"indented":                         {append([]byte("  "), bytes.ReplaceAll(both, []byte("\n"), []byte("\n  "))...), "its lines are indented"},
		"only the second one indented":     {slices.Concat(one, []byte("    "), bytes.ReplaceAll(two, []byte("\n"), []byte("\n    "))), "its lines are indented"},
		`\n as two characters`:             {bytes.ReplaceAll(both, []byte("\n"), []byte(`\n`)), `its line breaks are the two characters \n`},
		`\r\n as four characters`:          {bytes.ReplaceAll(both, []byte("\n"), []byte(`\r\n`)), `its line breaks are the two characters \n`},
		"on one line":                      {bytes.ReplaceAll(both, []byte("\n"), []byte(" ")), "its lines are joined into one"},
		"on one line, nothing between":     {bytes.ReplaceAll(one, []byte("\n"), nil), "its lines are joined into one"},
		"carriage returns alone":           {bytes.ReplaceAll(both, []byte("\n"), []byte("\r")), "end with a carriage return alone"},
		"two without a line break between": {slices.Concat(trimmed, two), "follow each other without a line break"},
		"three, the last without":          {slices.Concat(one, trimmed, two), "follow each other without a line break"},
		"base64 twice":                     {[]byte(base64.StdEncoding.EncodeToString(both)), "encoded twice"},
		"base64 twice, in lines":           {run("base64", "-in", "both.pem"), "encoded twice"},
		"base64 without its lines":         {run("base64", "-in", "root.der"), "without BEGIN and END lines"},
		"DER":                              {root.certificate.Raw, "a certificate in DER: convert it with `openssl x509 -inform DER"},
		"PKCS#7":                           {run("crl2pkcs7", "-nocrl", "-certfile", "both.pem"), "PKCS7, which is PKCS#7: convert it with `openssl pkcs7 -in FILE -print_certs`"},
		"PKCS#7 in DER":                    {run("crl2pkcs7", "-nocrl", "-certfile", "both.pem", "-outform", "DER"), "PKCS#7 in DER"},
		"PKCS#12":                          {run("pkcs12", "-export", "-in", "root.pem", "-inkey", "root.key", "-passout", "pass:hunter2"), "a PKCS#12 file"},
		"a key in DER":                     {run("pkey", "-in", "root.key", "-outform", "DER"), "a private key in DER"},
		"a Java keystore":                  {[]byte("\xfe\xed\xfe\xed\x00\x00\x00\x02\x00\x00\x00\x01hunter2"), "a Java keystore"},
		"a trusted certificate":            {run("x509", "-in", "root.pem", "-trustout", "-addtrust", "serverAuth"), "TRUSTED CERTIFICATE, which is OpenSSL's own form"},
		"a key between":                    {slices.Concat(one, root.key, two), "at position 2, PRIVATE KEY, which is a private key: remove it"},
		"a request":                        {run("req", "-new", "-key", "root.key", "-subj", "/CN=root"), "CERTIFICATE REQUEST, which is a request"},
		"a block of a secret name":         {[]byte("-----BEGIN hunter2-----\nAAAA\n-----END hunter2-----\n"), "a PEM block other than a certificate at position 1: put only certificates there"},
		"cut short":                        {both[:len(both)-40], "its END line is missing"},
		"an END line of something else":    {bytes.Replace(both, []byte("END CERTIFICATE"), []byte("END CERTIFICAT"), 1), "its END line does not name what its BEGIN line names"},
		"a damaged line":                   {bytes.Replace(both, []byte("MII"), []byte("M?I"), 1), "its base64 is damaged"},
		"damaged DER":                      {flipped(root), "has a damaged certificate at position 1"},
		"too many":                         {bytes.Repeat(two, 501), "has 501 PEM blocks; at most 500 certificates are read"},
		"too long":                         {append(bytes.Repeat([]byte("#"), 256<<10), both...), "bytes long; at most 262144 are allowed"},
	}
}

func TestFormsOfCertificateFilesAreReadOrNamed(t *testing.T) {
	root := authority(t, "root", nil, nil)
	middle := authority(t, "middle", &root, nil)
	for name, tc := range certificateForms(t, root, middle) {
		t.Run(name, func(t *testing.T) {
			bundle, err := pki.ParseBundle(tc.data)
			if tc.want == "" {
				if err != nil || len(bundle.Certificates) != 2 || !bundle.Certificates[0].Equal(middle.certificate) || !bundle.Certificates[1].Equal(root.certificate) {
					t.Errorf("%d certificates are read: %v", len(bundle.Certificates), err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("the error is %v, want %q in it", err, tc.want)
			}
			wantNoKey(t, err.Error(), root.key)
			wantNoKey(t, err.Error(), tc.data)
		})
	}
}

// The commands that a message names turn the form into what is read.
func TestTheCommandsInTheMessagesConvert(t *testing.T) {
	root := authority(t, "root", nil, nil)
	folder := t.TempDir()
	store(t, folder, "root.pem", root.pem())
	store(t, folder, "root.key", root.key)
	run := func(args ...string) []byte { return openssl(t, folder, args...) }
	for name, data := range map[string][]byte{
		"UTF-16":                wide(root.pem(), true),
		`\n as two characters`:  bytes.ReplaceAll(root.pem(), []byte("\n"), []byte(`\n`)),
		"carriage returns":      bytes.ReplaceAll(root.pem(), []byte("\n"), []byte("\r")),
		"indented":              append([]byte("  "), bytes.ReplaceAll(root.pem(), []byte("\n"), []byte("\n  "))...),
		"base64 twice":          []byte(base64.StdEncoding.EncodeToString(root.pem())),
		"base64 without lines":  []byte(base64.StdEncoding.EncodeToString(root.certificate.Raw)),
		"DER":                   root.certificate.Raw,
		"PKCS#7":                run("crl2pkcs7", "-nocrl", "-certfile", "root.pem"),
		"PKCS#7 in DER":         run("crl2pkcs7", "-nocrl", "-certfile", "root.pem", "-outform", "DER"),
		"a trusted certificate": run("x509", "-in", "root.pem", "-trustout", "-addtrust", "serverAuth"),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pki.ParseBundle(data)
			if err == nil {
				t.Fatal("it is accepted unconverted")
			}
			_, command, found := strings.Cut(err.Error(), "`")
			command, _, _ = strings.Cut(command, "`")
			if !found || !strings.Contains(command, "FILE") {
				t.Fatalf("there is no command in %q", err)
			}
			store(t, folder, "FILE", data)
			shell := exec.CommandContext(t.Context(), "sh", "-c", command)
			shell.Dir = folder
			out, err := shell.Output()
			if err != nil {
				t.Fatalf("%s: %v", command, err)
			}
			bundle, err := pki.ParseBundle(out)
			if err != nil || len(bundle.Certificates) != 1 || !bundle.Certificates[0].Equal(root.certificate) {
				t.Errorf("%s does not produce the certificate: %v", command, err)
			}
		})
	}
}

// A key or a certificate of an algorithm that Go cannot use is not damaged: the algorithm is named, read without the key.
func TestAlgorithmsThatGoCannotUseAreNamed(t *testing.T) {
	folder := t.TempDir()
	run := func(args ...string) []byte { return openssl(t, folder, args...) }
	good := authority(t, "good", nil, nil)
	for name, tc := range map[string]struct {
		generate []string
		want     string
	}{
		"RSA-PSS":              {[]string{"genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"}, "RSA-PSS (1.2.840.113549.1.1.10)"},
		"Ed448":                {[]string{"genpkey", "-algorithm", "Ed448"}, "Ed448 (1.3.101.113)"},
		"brainpool":            {[]string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1"}, "the curve brainpoolP256r1 (1.3.36.3.3.2.8.1.1.7)"},
		"brainpool, twisted":   {[]string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP384t1"}, "the curve brainpoolP384t1"},
		"secp256k1":            {[]string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"}, "the curve secp256k1 (1.3.132.0.10)"},
		"a curve without name": {[]string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:sect283r1"}, "the object identifier 1.3.132.0.17"},
		"explicit parameters":  {[]string{"genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"}, "explicit parameters"},
		"secp256k1 as SEC1":    {[]string{"ecparam", "-name", "secp256k1", "-genkey"}, "the curve secp256k1"},
		"explicit as SEC1":     {[]string{"ecparam", "-name", "prime256v1", "-genkey", "-param_enc", "explicit"}, "explicit parameters"},
	} {
		t.Run(name, func(t *testing.T) {
			key := run(tc.generate...)
			_, err := pki.ParseKey(key)
			wantUnsupported(t, err, tc.want, key)
			store(t, folder, "key.pem", key)
			certificate := run("req", "-x509", "-key", "key.pem", "-subj", "/CN=odd")
			_, err = pki.ParseBundle(certificate)
			wantUnsupported(t, err, tc.want, key)
			bundle, err := pki.ParseBundle(slices.Concat(certificate, good.pem()))
			if err != nil || len(bundle.Certificates) != 1 || len(bundle.Unreadable) != 1 || bundle.Unreadable[0].String() != `"CN=odd"` {
				t.Errorf("beside a good one: %d are read, %v: %v", len(bundle.Certificates), bundle.Unreadable, err)
			}
		})
	}
}

func wantUnsupported(t *testing.T, err error, want string, key []byte) {
	t.Helper()
	if fault.ReasonOf(err, "") != fault.UnsupportedAlgorithm || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "damaged") {
		t.Errorf("the error is %v (%s), want UnsupportedAlgorithm and %q in it", err, fault.ReasonOf(err, ""), want)
		return
	}
	wantNoKey(t, err.Error(), key)
}

// A certificate that is sound and has what Go refuses is named by that.
func TestANegativeSerialNumberIsNotDamage(t *testing.T) {
	folder := t.TempDir()
	store(t, folder, "key.pem", newKey(t, pki.ECDSAP256))
	_, err := pki.ParseBundle(openssl(t, folder, "req", "-x509", "-key", "key.pem", "-subj", "/CN=odd", "-set_serial", "-5"))
	if err == nil || !strings.Contains(err.Error(), `"CN=odd" has a negative serial number`) {
		t.Errorf("the error is %v", err)
	}
}
