// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/rekey/rekey/internal/credential"
)

// start is when the certificates of these tests begin.
var start = time.Date(2020, time.May, 1, 0, 0, 0, 0, time.UTC)

// pair is a certificate with its key.
type pair struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

// pem returns the certificate in PEM.
func (p pair) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.cert.Raw})
}

// issue returns a certificate that is valid for so many days; it signs itself without an issuer.
func issue(tb testing.TB, name string, days int, by *pair) pair {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(int64(len(name)) + 1), Subject: pkix.Name{CommonName: name}, NotBefore: start, NotAfter: start.AddDate(0, 0, days),
		IsCA: by == nil, BasicConstraintsValid: true,
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		tb.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return pair{key, cert}
}

// shown is what a test compares of an item.
func shown(found Found) []string {
	var out []string
	for _, item := range found.Items {
		line := fmt.Sprintf("%s [%s] %s by %s until %s", item.Key, item.Entry, item.Subject, item.Issuer, item.NotAfter.Format(time.DateOnly))
		if item.Leaf != "" {
			line += " above " + item.Leaf
		}
		out = append(out, line)
	}
	for _, one := range found.Unreadable {
		out = append(out, one.Key+" "+one.Reason)
	}
	return out
}

func TestEveryFormOfACertificateIsFound(t *testing.T) {
	root := issue(t, "root", 3000, nil)
	leaf := issue(t, "leaf", 28, &root)
	chain := slices.Concat(leaf.pem(), root.pem())
	must := func(out []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	kubeconfig := fmt.Sprintf("clusters:\n- cluster:\n    certificate-authority-data: %s\nusers:\n- user:\n    client-certificate-data: %s\n    client-key-data: c2VjcmV0\n",
		base64.StdEncoding.EncodeToString(root.pem()), base64.StdEncoding.EncodeToString(leaf.pem()))
	const leafUntil, rootUntil = "CN=leaf by CN=root until 2020-05-29", "CN=root by CN=root until 2028-07-18"
	for name, tc := range map[string]struct {
		key       string
		value     []byte
		passwords []string
		want      []string
	}{
		"a chain in PEM counts with its earliest member":    {key: "tls.crt", value: chain, want: []string{"tls.crt [] " + leafUntil}},
		"roots in a bundle count one by one":                {key: "ca.crt", value: slices.Concat(root.pem(), issue(t, "other", 10, nil).pem()), want: []string{"ca.crt [] " + rootUntil, "ca.crt [] CN=other by CN=other until 2020-05-11"}},
		"the same certificate counts once":                  {key: "ca.crt", value: slices.Concat(root.pem(), root.pem()), want: []string{"ca.crt [] " + rootUntil}},
		"an intermediate that expires before the leaf":      {key: "tls.crt", value: expiringIntermediate(t), want: []string{"tls.crt [] CN=middle by CN=top until 2020-05-06 above CN=end"}},
		"text around PEM":                                   {key: "a", value: []byte("# a comment\n" + string(chain) + "more\n"), want: []string{"a [] " + leafUntil}},
		"PEM indented in YAML":                              {key: "values.yaml", value: []byte("tls:\n  cert: |\n    " + strings.ReplaceAll(string(leaf.pem()), "\n", "\n    ")), want: []string{"values.yaml [] " + leafUntil}},
		"PEM in a JSON string":                              {key: "account.json", value: []byte(`{"cert": "` + strings.ReplaceAll(string(leaf.pem()), "\n", `\n`) + `"}`), want: []string{"account.json [] " + leafUntil}},
		"Windows line endings":                              {key: "a", value: bytes.ReplaceAll(leaf.pem(), []byte("\n"), []byte("\r\n")), want: []string{"a [] " + leafUntil}},
		"OpenSSL's own form":                                {key: "a", value: bytes.ReplaceAll(leaf.pem(), []byte(" CERT"), []byte(" TRUSTED CERT")), want: []string{"a [] " + leafUntil}},
		"DER":                                               {key: "cert.der", value: leaf.cert.Raw, want: []string{"cert.der [] " + leafUntil}},
		"two in DER":                                        {key: "cert.der", value: slices.Concat(leaf.cert.Raw, root.cert.Raw), want: []string{"cert.der [] " + leafUntil}},
		"PEM that was encoded twice":                        {key: "tls.crt", value: []byte(base64.StdEncoding.EncodeToString(leaf.pem())), want: []string{"tls.crt [] " + leafUntil}},
		"a kubeconfig":                                      {key: "config", value: []byte(kubeconfig), want: []string{"config [certificate-authority-data] " + rootUntil, "config [client-certificate-data] " + leafUntil}},
		"a PKCS#12 keystore with its password":              {key: "k.p12", value: must(pkcs12.Modern.Encode(leaf.key, leaf.cert, []*x509.Certificate{root.cert}, "pass")), passwords: []string{"wrong", "pass"}, want: []string{"k.p12 [] " + leafUntil}},
		"a legacy PKCS#12 keystore":                         {key: "k.p12", value: must(pkcs12.LegacyDES.Encode(leaf.key, leaf.cert, nil, "pass")), passwords: []string{"pass"}, want: []string{"k.p12 [] " + leafUntil}},
		"the oldest PKCS#12 keystore":                       {key: "k.p12", value: must(pkcs12.LegacyRC2.Encode(leaf.key, leaf.cert, nil, "pass")), passwords: []string{"pass"}, want: []string{"k.p12 [] " + leafUntil}},
		"a PKCS#12 truststore without a password":           {key: "t.p12", value: must(pkcs12.Passwordless.EncodeTrustStore([]*x509.Certificate{root.cert}, "")), want: []string{"t.p12 [] " + rootUntil}},
		"a PKCS#12 truststore with the empty password":      {key: "t.p12", value: must(pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{root.cert}, "")), want: []string{"t.p12 [] " + rootUntil}},
		"a PKCS#12 truststore with a password":              {key: "t.p12", value: must(pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{root.cert}, "pässword")), passwords: []string{"pässword"}, want: []string{"t.p12 [] " + rootUntil}},
		"PKCS#12 without its password":                      {key: "k.p12", value: must(pkcs12.Modern.Encode(leaf.key, leaf.cert, nil, "pass")), want: []string{"k.p12 is an encrypted PKCS#12 file: name the Secret with its password in spec.keystorePasswords"}},
		"PKCS#12 with another password":                     {key: "k.p12", value: must(pkcs12.Modern.Encode(leaf.key, leaf.cert, nil, "pass")), passwords: []string{"other"}, want: []string{"k.p12 is an encrypted PKCS#12 file, and none of spec.keystorePasswords opens it (or Go cannot read a certificate in it): add its password there"}},
		"PKCS#12 with as many iterations as a day of work":  {key: "k.p12", value: expensive(t, leaf, -1), passwords: []string{"pass"}, want: []string{"k.p12 is a PKCS#12 file with too many iterations (with the other keystores in the object, more than 1000000): write it again with fewer"}},
		"the work factor of the key does not matter":        {key: "k.p12", value: withoutCheapKey(t, leaf), passwords: []string{"pass"}, want: []string{"k.p12 [] " + leafUntil}},
		"a Java keystore needs no password":                 {key: "k.jks", value: javaKeystore(t, leaf, root), want: []string{"k.jks [identity] " + leafUntil, "k.jks [trusted] " + rootUntil}},
		"a Java keystore whose lengths do not fit into it":  {key: "k.jks", value: hugeLength(javaKeystore(t, leaf, root)), want: []string{"k.jks is a damaged Java keystore: check it with keytool -list"}},
		"a truncated Java keystore":                         {key: "k.jks", value: javaKeystore(t, leaf, root)[:300], want: []string{"k.jks is a damaged Java keystore: check it with keytool -list"}},
		"a damaged certificate beside a good one":           {key: "a", value: slices.Concat([]byte("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"), leaf.pem()), want: []string{"a [] " + leafUntil, "a has a damaged certificate in PEM: check it with openssl x509"}},
		"a certificate that was cut short":                  {key: "a", value: leaf.pem()[:100], want: []string{"a has a damaged certificate in PEM: check it with openssl x509"}},
		"a private key is neither read nor reported":        {key: "tls.key", value: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: knownKey})},
		"a private key in DER is neither read nor reported": {key: "key.der", value: must(x509.MarshalPKCS8PrivateKey(leaf.key))},
		"a password":                                        {key: "password", value: []byte("correct horse battery staple")},
		"an empty value":                                    {key: "k.p12"},
		"random bytes that start like DER":                  {key: "blob", value: []byte{0x30, 0x82, 0xff, 0xff, 1, 2, 3}},
		"a value that is named like a keystore and is none": {key: "k.p12", value: []byte("todo"), want: []string{"k.p12 is named like a keystore, but is neither PKCS#12 in DER nor JKS: convert it with keytool or openssl pkcs12"}},
		"JCEKS":                       {key: "k.jks", value: []byte("\xce\xce\xce\xce..."), want: []string{"k.jks is a JCEKS keystore, which is not read: convert it with keytool -importkeystore -deststoretype PKCS12"}},
		"PKCS#7 in PEM":               {key: "a", value: []byte("-----BEGIN PKCS7-----\nMIIB\n-----END PKCS7-----\n"), want: []string{"a has a PKCS#7 block, which is not read: convert it with openssl pkcs7 -print_certs"}},
		"BER with indefinite lengths": {key: "k.p12", value: []byte{0x30, 0x80, 2, 1, 3}, want: []string{"k.p12 is BER with indefinite lengths, which is not read: convert it to DER with openssl pkcs12 or openssl pkcs7"}},
		"a field of a kubeconfig with damaged PEM inside it": {key: "config", value: []byte("caBundle: " + base64.StdEncoding.EncodeToString(leaf.pem()[:100])), want: []string{"config has a field caBundle that has a damaged certificate in PEM: check it with openssl x509"}},
	} {
		t.Run(name, func(t *testing.T) {
			var passwords []credential.Sensitive
			for _, password := range tc.passwords {
				passwords = append(passwords, credential.NewSensitive([]byte(password)))
			}
			if diff := cmp.Diff(tc.want, shown(Find(map[string][]byte{tc.key: tc.value}, passwords...))); diff != "" {
				t.Errorf("what was found (-want +got):\n%s", diff)
			}
		})
	}
}

// expiringIntermediate is a chain in PEM whose second certificate expires first.
func expiringIntermediate(t *testing.T) []byte {
	t.Helper()
	top := issue(t, "top", 1000, nil)
	middle := issue(t, "middle", 5, &top)
	return slices.Concat(issue(t, "end", 100, &middle).pem(), middle.pem())
}

// cheap and dear are 65,536 and 8,388,607 iterations in DER.
var cheap, dear = []byte{2, 3, 1, 0, 0}, []byte{2, 3, 0x7f, 0xff, 0xff}

// expensive is a keystore in which that many of the numbers of iterations, from the first, are replaced; -1 for all.
func expensive(t *testing.T, leaf pair, count int) []byte {
	t.Helper()
	file, err := pkcs12.Modern.WithIterations(65536).Encode(leaf.key, leaf.cert, nil, "pass")
	if err != nil {
		t.Fatal(err)
	}
	if got := bytes.Count(file, cheap); got != 3 {
		t.Fatalf("the keystore has %d numbers of iterations, want 3: of its certificates, its key and its MAC", got)
	}
	return bytes.Replace(file, cheap, dear, count)
}

// withoutCheapKey is a keystore whose certificates are cheap to decrypt, and nothing else is.
func withoutCheapKey(t *testing.T, leaf pair) []byte {
	t.Helper()
	file := expensive(t, leaf, -1)
	return bytes.Replace(file, dear, cheap, 1)
}

func javaKeystore(tb testing.TB, leaf, root pair) []byte {
	tb.Helper()
	store := keystore.New(keystore.WithOrderedAliases())
	certificate := func(p pair) keystore.Certificate { return keystore.Certificate{Type: "X.509", Content: p.cert.Raw} }
	key, err := x509.MarshalPKCS8PrivateKey(leaf.key)
	if err != nil {
		tb.Fatal(err)
	}
	var out bytes.Buffer
	for _, err := range []error{
		store.SetTrustedCertificateEntry("trusted", keystore.TrustedCertificateEntry{CreationTime: start, Certificate: certificate(root)}),
		store.SetPrivateKeyEntry("identity", keystore.PrivateKeyEntry{CreationTime: start, PrivateKey: key,
			CertificateChain: []keystore.Certificate{certificate(leaf), certificate(root)}}, []byte("changeit")),
		store.Store(&out, []byte("changeit")),
	} {
		if err != nil {
			tb.Fatal(err)
		}
	}
	return out.Bytes()
}

// hugeLength says that a keystore's first private key has 4 GiB. Its alias is "identity".
func hugeLength(file []byte) []byte {
	at := 12 + 4 + 2 + len("identity") + 8
	return slices.Concat(file[:at], []byte{0xff, 0xff, 0xff, 0xff}, file[at+4:])
}

// The keystores of other software are read too.
func TestKeystoresOfOpenSSLAndJavaAreRead(t *testing.T) {
	folder := t.TempDir()
	run := func(command string, arguments ...string) {
		t.Helper()
		out := exec.Command(command, arguments...)
		out.Dir = folder
		if text, err := out.CombinedOutput(); err != nil {
			t.Fatalf("%s %v: %v\n%s", command, arguments, err, text)
		}
	}
	run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem", "-out", "cert.pem", "-subj", "/CN=made by hand", "-days", "10")
	run("openssl", "pkcs12", "-export", "-inkey", "key.pem", "-in", "cert.pem", "-out", "openssl.p12", "-passout", "pass:secret")
	run("openssl", "pkcs12", "-export", "-inkey", "key.pem", "-in", "cert.pem", "-out", "plain.p12", "-passout", "pass:secret", "-certpbe", "NONE")
	run("openssl", "x509", "-in", "cert.pem", "-out", "trusted.pem", "-trustout", "-addtrust", "serverAuth")
	run("keytool", "-importcert", "-noprompt", "-alias", "root", "-file", "cert.pem", "-keystore", "java.p12", "-storepass", "secret")
	run("keytool", "-importcert", "-noprompt", "-alias", "root", "-file", "cert.pem", "-keystore", "java.jks", "-storetype", "JKS", "-storepass", "secret")
	data := map[string][]byte{}
	for _, name := range []string{"openssl.p12", "plain.p12", "trusted.pem", "java.p12", "java.jks"} {
		content, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		data[name] = content
	}
	for name, content := range data {
		found := Find(map[string][]byte{name: content}, credential.NewSensitive([]byte("secret")))
		if len(found.Items) != 1 || found.Items[0].Subject != "CN=made by hand" || len(found.Unreadable) > 0 {
			t.Errorf("%s: found %+v", name, found)
		}
	}
	if found := Find(map[string][]byte{"plain.p12": data["plain.p12"]}); len(found.Items) != 1 {
		t.Errorf("certificates that are not encrypted need no password, found %+v", found)
	}
}

// A certificate with an algorithm that Go does not know expires like any other.
func TestACertificateThatGoCannotUseIsFound(t *testing.T) {
	folder := t.TempDir()
	out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1", "-nodes",
		"-keyout", filepath.Join(folder, "key.pem"), "-subj", "/CN=unusual", "-days", "10").Output()
	if err != nil {
		t.Fatal(err)
	}
	found := Find(map[string][]byte{"tls.crt": out})
	if len(found.Items) != 1 || found.Items[0].Subject != "CN=unusual" {
		t.Errorf("found %+v", found)
	}
}

// Nothing that is kept shares memory with what was read.
func TestWhatIsFoundKeepsNothingOfTheValue(t *testing.T) {
	leaf := issue(t, "leaf", 28, nil)
	value := leaf.pem()
	found := Find(map[string][]byte{"tls.crt": value})
	for i := range value {
		value[i] = 0
	}
	if got, want := found.Items[0].Subject, "CN=leaf"; got != want {
		t.Errorf("subject %q, want %q", got, want)
	}
}

func TestTheNumberOfCertificatesInAValueIsLimited(t *testing.T) {
	one := issue(t, "one", 5, nil).pem()
	found := Find(map[string][]byte{"ca.crt": bytes.Repeat(one, maxCertificates+5)})
	if len(found.Items) != 1 || len(found.Unreadable) != 1 || !strings.Contains(found.Unreadable[0].Reason, "more than 1000 certificates") {
		t.Errorf("found %+v", found)
	}
}

func TestWhatIsBeyondTheLimitsOfAnObjectIsReported(t *testing.T) {
	data := map[string][]byte{}
	const many = maxUnreadable + 3
	for n := range many {
		data[fmt.Sprintf("%02d.p12", n)] = []byte("text")
	}
	got := Find(data).Unreadable
	want := Unreadable{Reason: "has other values that cannot be read, 3 of them, besides the first 20"}
	if len(got) != maxUnreadable+1 || got[maxUnreadable] != want {
		t.Errorf("%d are reported, the last of them %+v", len(got), got[len(got)-1])
	}
	if got := beyond(true, 0); len(got) != 1 || got[0].Reason != "has more than 2000 certificates, and the others are not watched: divide it" {
		t.Errorf("certificates beyond the limit: %+v", got)
	}
}

// FuzzFind: no bytes make Find panic, run for long, or invent a certificate in a text without one.
func FuzzFind(f *testing.F) {
	root := issue(f, "root", 3000, nil)
	leaf := issue(f, "leaf", 28, &root)
	for _, seed := range [][]byte{leaf.pem(), leaf.cert.Raw, javaKeystore(f, leaf, root), magicJKS, []byte("-----BEGIN CERTIFICATE-----"), {0x30, 0x82}} {
		f.Add(seed)
	}
	for _, encoder := range []*pkcs12.Encoder{pkcs12.Modern, pkcs12.LegacyDES} {
		file, err := encoder.Encode(leaf.key, leaf.cert, nil, "pass")
		if err != nil {
			f.Fatal(err)
		}
		f.Add(file)
	}
	password := credential.NewSensitive([]byte("pass"))
	f.Fuzz(func(t *testing.T, value []byte) {
		found := Find(map[string][]byte{"keystore.p12": value, "x": value}, password)
		for _, item := range found.Items {
			if item.Subject == "" || item.Issuer == "" || len(item.Subject)+len(item.Issuer) > 2*maxName || item.NotAfter.Year() > lastYear || item.SHA256 == [32]byte{} {
				t.Errorf("a certificate without what identifies it: %+v", item)
			}
		}
		for _, one := range found.Unreadable {
			if one.Reason == "" || len(one.Reason) > maxReason {
				t.Errorf("a reason that cannot be shown: %q", one.Reason)
			}
		}
		catalog := NewCatalog()
		catalog.Begin()
		catalog.Put(Place{"Secret", "a", "b"}, "1", found)
		if got := catalog.Summarize(start, Limits{}, nil); got.Observed > len(found.Items) {
			t.Errorf("%d certificates counted, %d found", got.Observed, len(found.Items))
		}
	})
}
