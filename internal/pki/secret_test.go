// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/pki"
)

func TestTLSSecretDataIsReadBackAsItWasWritten(t *testing.T) {
	root := authority(t, "root", nil, nil)
	middle := authority(t, "middle", &root, nil)
	leaf := sign(t, leafTemplate(), &middle, pki.ECDSAP256)
	in := materialOf(leaf, middle.pem(), root.pem())

	data := pki.TLSSecretData(in, nil)
	keys := make([]string, 0, len(data))
	for key := range data {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	if diff := cmp.Diff([]string{"ca.crt", "tls.crt", "tls.key"}, keys); diff != "" {
		t.Errorf("the keys (-want +got):\n%s", diff)
	}
	combined := pki.TLSSecretData(in, []pki.Format{pki.CombinedPEM})
	if want := slices.Concat(leaf.key, leaf.pem(), middle.pem()); !bytes.Equal(combined["tls-combined.pem"], want) {
		t.Error("tls-combined.pem is not the key, the leaf and the chain")
	}

	der := pki.TLSSecretData(in, []pki.Format{pki.DER})
	if !bytes.Equal(der["tls.der"], leaf.certificate.Raw) {
		t.Error("tls.der is not the leaf")
	}
	if key, err := x509.ParsePKCS8PrivateKey(der["key.der"]); err != nil || !leaf.signer.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(key.(crypto.Signer).Public()) {
		t.Errorf("key.der is not the private key as PKCS#8: %v", err)
	}

	secret, err := pki.ParseTLSSecret(combined)
	if err != nil {
		t.Fatal(err)
	}
	if !secret.Leaf.Equal(leaf.certificate) || len(secret.Intermediates) != 1 || !secret.Intermediates[0].Equal(middle.certificate) || len(secret.Authorities) != 1 {
		t.Error("the certificates differ from what was written")
	}
	if !secret.Material().Equal(in) {
		t.Error("the material differs from what was written")
	}
	data[credential.KeyPrivateKey][0] = 'x'
	if !bytes.Equal(in[credential.KeyPrivateKey].Reveal(), leaf.key) {
		t.Error("changing the data changes the material")
	}
}

func TestCeilingIsTheFirstEndAboveTheLeaf(t *testing.T) {
	ends := func(hours int) func(*x509.Certificate) {
		return func(c *x509.Certificate) { c.NotAfter = now.Add(time.Duration(hours) * time.Hour) }
	}
	root, shortRoot := authority(t, "root", nil, ends(30)), authority(t, "short root", nil, ends(10))
	middle, underShort := authority(t, "middle", &root, ends(20)), authority(t, "middle", &shortRoot, ends(20))
	for name, tc := range map[string]struct {
		above          *signed
		chain, anchors []byte
		want           int
	}{
		"the root":                           {&root, nil, root.pem(), 30},
		"the intermediate":                   {&middle, middle.pem(), root.pem(), 20},
		"the root below which it lies":       {&underShort, underShort.pem(), shortRoot.pem(), 10},
		"an anchor beside it does not count": {&root, nil, slices.Concat(shortRoot.pem(), root.pem()), 30},
		"nobody":                             {&root, nil, shortRoot.pem(), 0},
	} {
		t.Run(name, func(t *testing.T) {
			leaf := sign(t, leafTemplate(), tc.above, pki.ECDSAP256)
			secret, err := pki.ParseTLSSecret(pki.TLSSecretData(materialOf(leaf, tc.chain, tc.anchors), nil))
			if err != nil {
				t.Fatal(err)
			}
			got, ok := secret.Ceiling(now)
			if ok != (tc.want > 0) || ok && !got.Equal(now.Add(time.Duration(tc.want)*time.Hour)) {
				t.Errorf("it is %s, %t", got, ok)
			}
		})
	}
}

func TestParseTLSSecretNamesWhatIsDamaged(t *testing.T) {
	root := authority(t, "root", nil, nil)
	middle := authority(t, "middle", &root, nil)
	leaf := sign(t, leafTemplate(), &middle, pki.ECDSAP256)
	other := sign(t, leafTemplate(), &root, pki.ECDSAP256)
	good := pki.TLSSecretData(materialOf(leaf, middle.pem(), root.pem()), nil)
	crt := good["tls.crt"]
	for name, tc := range map[string]struct {
		key   string
		value []byte
		want  string
	}{
		"no certificate":             {"tls.crt", nil, "the key tls.crt is missing or empty"},
		"no key":                     {"tls.key", nil, "the key tls.key is missing or empty"},
		"no anchor":                  {"ca.crt", nil, "the key ca.crt is missing or empty"},
		"no PEM":                     {"tls.crt", []byte("hunter2"), "tls.crt holds no PEM block"},
		"a key for a certificate":    {"tls.crt", leaf.key, "tls.crt has a PEM block other than a certificate at position 1"},
		"a certificate for a key":    {"tls.key", crt, "tls.key: the private key is followed by another PEM block"},
		"an anchor cut short":        {"ca.crt", root.pem()[:100], "ca.crt holds no PEM block"},
		"a chain cut short":          {"tls.crt", crt[:len(crt)-40], "tls.crt has something that is not PEM after block 1"},
		"a leaf cut short":           {"tls.crt", slices.Concat(leaf.pem()[:200], []byte("\n"), middle.pem()), "tls.crt has a damaged PEM block at position 1"},
		"text after the chain":       {"tls.crt", append(slices.Clone(crt), "hunter2"...), "tls.crt has something that is not PEM after block 2"},
		"a bit flipped":              {"tls.crt", flipped(leaf), "tls.crt has a damaged certificate at position 1"},
		"too many certificates":      {"ca.crt", bytes.Repeat(root.pem(), 501), "ca.crt has 501 PEM blocks; at most 500 certificates are read"},
		"too many bytes":             {"ca.crt", bytes.Repeat([]byte("\n"), 300<<10), "ca.crt is 307200 bytes long; at most 262144 are allowed"},
		"the key of another":         {"tls.key", other.key, "tls.key is not the key of the first certificate in tls.crt (\"CN=app-server,O=Example\")"},
		"another leaf's chain":       {"tls.crt", slices.Concat(other.pem(), middle.pem()), "tls.key is not the key of the first"},
		"a chain without the middle": {"tls.crt", slices.Concat(leaf.pem(), root.pem()), "certificate 2 in tls.crt (\"CN=root\") has not signed the one before it"},
	} {
		t.Run(name, func(t *testing.T) {
			data := maps.Clone(good)
			data[tc.key] = tc.value
			_, err := pki.ParseTLSSecret(data)
			if err == nil {
				t.Fatal("it is accepted")
			}
			if !strings.Contains(err.Error(), tc.want) {
				t.Errorf("the error is %q, want %q in it", err, tc.want)
			}
			if fault.Classify(err) != fault.ClassPermanent || fault.ReasonOf(err, "") != fault.SecretInvalid {
				t.Errorf("it is %s with the reason %s", fault.Classify(err), fault.ReasonOf(err, ""))
			}
			wantNoKey(t, err.Error(), leaf.key)
		})
	}
}

// flipped returns the certificate with its outermost length damaged.
func flipped(leaf signed) []byte {
	der := slices.Clone(leaf.certificate.Raw)
	der[2] ^= 0x40
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func TestDescribeIsShortAndNeverEmpty(t *testing.T) {
	root := authority(t, strings.Repeat("x", 500), nil, nil)
	if got := pki.Describe(root.certificate); len(got) > 140 || !strings.HasPrefix(got, `"CN=xxx`) {
		t.Errorf("it is %s", got)
	}
	nameless := sign(t, edit(func(c *x509.Certificate) { c.Subject.CommonName, c.Subject.Organization = "", nil }), &root, pki.ECDSAP256)
	if got := pki.Describe(nameless.certificate); got != "the certificate with serial number 80"+strings.Repeat("00", 15) {
		t.Errorf("it is %s", got)
	}
	if got := pki.SHA256(nameless.certificate); len(got) != 64 {
		t.Errorf("the fingerprint is %s", got)
	}
}

func FuzzParseTLSSecret(f *testing.F) {
	root := authority(f, "root", nil, nil)
	middle := authority(f, "middle", &root, nil)
	leaf := sign(f, leafTemplate(), &middle, pki.ECDSAP256)
	good := pki.TLSSecretData(materialOf(leaf, middle.pem(), root.pem()), nil)
	f.Add(good["tls.crt"], good["tls.key"], good["ca.crt"])
	f.Add(good["tls.crt"], newKey(f, pki.Ed25519), good["ca.crt"])
	f.Add([]byte("hunter2"), []byte("hunter2"), []byte("hunter2"))
	f.Fuzz(func(t *testing.T, crt, key, anchors []byte) {
		secret, err := pki.ParseTLSSecret(map[string][]byte{"tls.crt": crt, "tls.key": key, "ca.crt": anchors})
		if err != nil {
			wantNoKey(t, err.Error(), key)
			return
		}
		if _, err := pki.ParseTLSSecret(pki.TLSSecretData(secret.Material(), nil)); err != nil {
			t.Errorf("what was read cannot be read again: %v", err)
		}
		if shown := fmt.Sprintf("%v %+v %#v", secret.Material(), secret.Material(), secret.Material()); strings.Contains(shown, "BEGIN") {
			t.Error("the material can be printed")
		}
		ceiling, _ := secret.Ceiling(now)
		identity := pki.IdentityOf(secret.Leaf, own())
		if same := pki.CertificateFingerprint(secret.Leaf, identity, ceiling) == identity.Fingerprint(); same != (len(pki.Diff(secret.Leaf, identity, ceiling)) == 0) {
			t.Error("Diff and the fingerprints do not agree")
		}
	})
}

func TestAKeyInAnyEncodingIsPublishedAsPKCS8InDER(t *testing.T) {
	key := must[*rsa.PrivateKey](t)(rsa.GenerateKey(rand.Reader, 2048))
	curve := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	for name, tc := range map[string]struct {
		text []byte
		want []byte
	}{
		"PKCS#1": {pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))},
		"SEC1": {slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}}),
			pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: must[[]byte](t)(x509.MarshalECPrivateKey(curve))})), must[[]byte](t)(x509.MarshalPKCS8PrivateKey(curve))},
		"a certificate follows": {slices.Concat(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: []byte("x")})),
			must[[]byte](t)(x509.MarshalPKCS8PrivateKey(key))},
		"a placeholder of the cache": {[]byte("rekey-0123-good"), []byte("rekey-0123-good")},
	} {
		data := pki.TLSSecretData(credential.Material{credential.KeyPrivateKey: credential.NewSensitive(tc.text), credential.KeyCertificate: credential.NewSensitive(nil)}, []pki.Format{pki.DER})
		if !bytes.Equal(data["key.der"], tc.want) {
			t.Errorf("%s: another key", name)
		}
	}
}
