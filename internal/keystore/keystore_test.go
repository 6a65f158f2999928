// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package keystore_test

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/keystore"
	"github.com/rekey/rekey/internal/pki"
)

const password = "correct horse \"battery\" $taple"

func settings(profile keystore.Profile) keystore.Settings {
	return keystore.Settings{Formats: []keystore.Format{keystore.PKCS12, keystore.JKS}, Alias: "Orders-1", Profile: profile,
		Password: credential.SensitiveString(password)}
}

// openSSL returns the certificates and the keys that OpenSSL reads in a PKCS#12 file.
func openSSL(t *testing.T, folder, file, with string, more ...string) (certificates, keys [][]byte, err error) {
	t.Helper()
	said, err := run(t, folder, "openssl", append([]string{"pkcs12", "-in", file, "-nodes", "-passin", "pass:" + with}, more...)...)
	if err != nil {
		err = fmt.Errorf("%w: %s", err, said)
	}
	return blocks(said, "CERTIFICATE"), blocks(said, "PRIVATE KEY"), err
}

func TestOpenSSLReadsEveryProfile(t *testing.T) {
	for name, tc := range map[string]struct {
		profile keystore.Profile
		options []string
	}{
		// OpenSSL verifies PBMAC1 since release 3.4. An older one decrypts the file without that; the MAC has a test of its own.
		"Modern2026": {keystore.Modern2026, []string{"-nomacver"}},
		"Modern2023": {keystore.Modern2023, nil},
		"LegacyDES":  {keystore.LegacyDES, nil},
		"no profile": {"", nil},
	} {
		for _, algorithm := range []pki.KeyAlgorithm{pki.ECDSAP256, pki.RSA2048, pki.Ed25519} {
			t.Run(fmt.Sprintf("%s, %s", name, algorithm), func(t *testing.T) {
				in := newContent(t, algorithm)
				files, err := settings(tc.profile).Encode(in.data)
				if err != nil {
					t.Fatal(err)
				}
				folder := store(t, files)
				certificates, keys, err := openSSL(t, folder, keystore.FileKeyPKCS12, password, tc.options...)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(raw(in.chain), certificates); diff != "" {
					t.Error("the certificates differ from the chain")
				}
				if diff := cmp.Diff([][]byte{pkcs8(t, in.key)}, keys); diff != "" {
					t.Error("the private key is another one")
				}
				certificates, keys, err = openSSL(t, folder, keystore.FileTrustPKCS12, password, tc.options...)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(raw(in.anchors), certificates); diff != "" || len(keys) != 0 {
					t.Errorf("the truststore differs from the trust anchors, or has %d keys", len(keys))
				}
				for _, file := range []string{keystore.FileKeyPKCS12, keystore.FileTrustPKCS12} {
					if _, _, err := openSSL(t, folder, file, "another password", tc.options...); err == nil {
						t.Errorf("%s can be read with another password", file)
					}
				}
			})
		}
	}
}

func TestJavaReadsEveryProfile(t *testing.T) {
	for _, algorithm := range []pki.KeyAlgorithm{pki.ECDSAP256, pki.RSA2048, pki.Ed25519} {
		t.Run(string(algorithm), func(t *testing.T) {
			in := newContent(t, algorithm)
			all, args := map[string][]byte{}, []string{}
			want := map[string][]string{}
			for _, profile := range []keystore.Profile{keystore.Modern2023, keystore.LegacyDES} {
				files, err := settings(profile).Encode(in.data)
				if err != nil {
					t.Fatal(err)
				}
				for name, data := range files {
					file, kind := string(profile)+"-"+name, "PKCS12"
					if strings.HasSuffix(name, ".jks") {
						kind = "JKS"
					}
					all[file] = data
					args = append(args, kind, file, password)
					want[file] = []string{fmt.Sprintf("trusted ca %s -", sum(in.anchors[0].Raw)), fmt.Sprintf("trusted ca-2 %s -", sum(in.anchors[1].Raw)), "accepts 2"}
					if strings.HasPrefix(name, "keystore") {
						alias := map[string]string{"PKCS12": "1", "JKS": "orders-1"}[kind]
						want[file] = []string{fmt.Sprintf("key %s %s %s", alias, sum(raw(in.chain)...), sum(pkcs8(t, in.key)))}
					}
				}
			}
			if diff := cmp.Diff(want, asJava(t, store(t, all), args...)); diff != "" {
				t.Errorf("what Java reads (-want +got):\n%s", diff)
			}
		})
	}
}

func TestJavaRefusesAnotherPasswordAndReadsTheNewestProfileOrNamesWhatItLacks(t *testing.T) {
	in := newContent(t, pki.ECDSAP256)
	files, err := settings(keystore.Modern2023).Encode(in.data)
	if err != nil {
		t.Fatal(err)
	}
	newest, err := settings(keystore.Modern2026).Encode(in.data)
	if err != nil {
		t.Fatal(err)
	}
	files["newest.p12"] = newest[keystore.FileKeyPKCS12]
	args := []string{"PKCS12", "newest.p12", password}
	for _, file := range []string{keystore.FileKeyPKCS12, keystore.FileTrustPKCS12, keystore.FileKeyJKS, keystore.FileTrustJKS} {
		kind := "PKCS12"
		if strings.HasSuffix(file, ".jks") {
			kind = "JKS"
		}
		args = append(args, kind, file, "another password")
	}
	got := asJava(t, store(t, files), args...)
	for file, lines := range got {
		refused := len(lines) == 1 && strings.HasPrefix(lines[0], "error")
		if file != "newest.p12" && !refused {
			t.Errorf("%s can be read with another password: %q", file, lines)
		}
	}
	// Java verifies PBMAC1 since release 26.
	want := fmt.Sprintf("key 1 %s %s", sum(raw(in.chain)...), sum(pkcs8(t, in.key)))
	if lines := got["newest.p12"]; len(lines) != 1 || lines[0] != want && !strings.Contains(lines[0], "1.2.840.113549.1.5.14") && !strings.Contains(lines[0], "PBMAC1") {
		t.Errorf("Java neither reads the newest profile nor names the algorithm that it lacks: %q", lines)
	}
}

func TestKeytoolListsEveryFile(t *testing.T) {
	in := newContent(t, pki.ECDSAP256)
	files, err := settings("").Encode(in.data)
	if err != nil {
		t.Fatal(err)
	}
	folder := store(t, files)
	for file, want := range map[string][]string{
		keystore.FileKeyPKCS12:   {"contains 1 entry", "Alias name: 1", "PrivateKeyEntry", "Certificate chain length: 2"},
		keystore.FileKeyJKS:      {"contains 1 entry", "Alias name: orders-1", "PrivateKeyEntry", "Certificate chain length: 2"},
		keystore.FileTrustPKCS12: {"contains 2 entries", "Alias name: ca", "Alias name: ca-2", "trustedCertEntry"},
		keystore.FileTrustJKS:    {"contains 2 entries", "Alias name: ca", "Alias name: ca-2", "trustedCertEntry"},
	} {
		said, err := run(t, folder, "keytool", "-J-Duser.language=en", "-list", "-v", "-keystore", filepath.Join(folder, file), "-storepass", password)
		if err != nil {
			t.Fatalf("%s: %v: %s", file, err, said)
		}
		for _, text := range want {
			if !strings.Contains(said, text) {
				t.Errorf("keytool does not list %q in %s:\n%s", text, file, said)
			}
		}
	}
}

func TestOnlyPasswordsThatEveryReaderUnderstandsAreUsed(t *testing.T) {
	for name, tc := range map[string]struct{ password, want string }{
		"six characters":           {"abc123", ""},
		"every printable one":      {" !\"#$%&'()*+,-./0123456789:;<=>?@AZ[\\]^_`az{|}~", ""},
		"the longest":              {strings.Repeat("x", keystore.MaxPassword), ""},
		"five characters":          {"abc12", "is 5 characters long, but keytool and Java need at least 6: choose a longer one"},
		"none":                     {"", "is 0 characters long, but keytool and Java need at least 6: choose a longer one"},
		"one more than the most":   {strings.Repeat("x", keystore.MaxPassword+1), "is 129 characters long, but at most 128 are allowed: choose a shorter one"},
		"a line break at the end":  {"abc123\n", "ends with a line break, which applications do not send: store it without one, for example with `printf %s`"},
		"one of Windows":           {"abc123\r\n", "ends with a line break, which applications do not send: store it without one, for example with `printf %s`"},
		"a line break in between":  {"abc\n123", "has a character that is not printable ASCII, which Java reads differently in PKCS12 and JKS: choose a password of letters, digits and symbols of ASCII"},
		"an umlaut":                {"pässword", "has a character that is not printable ASCII, which Java reads differently in PKCS12 and JKS: choose a password of letters, digits and symbols of ASCII"},
		"bytes that are not UTF-8": {"abc123\xff", "has a character that is not printable ASCII, which Java reads differently in PKCS12 and JKS: choose a password of letters, digits and symbols of ASCII"},
	} {
		got := ""
		if err := keystore.CheckPassword(credential.SensitiveString(tc.password)); err != nil {
			got = err.Error()
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestDamagedContentIsAnErrorThatShowsNothingOfIt(t *testing.T) {
	in := newContent(t, pki.ECDSAP256)
	for name, tc := range map[string]struct{ key, want string }{
		"the certificate":   {credential.KeyCertificate, "tls.crt holds no PEM block"},
		"the trust anchors": {credential.KeyAuthority, "ca.crt holds no PEM block"},
		"the private key":   {credential.KeyPrivateKey, "tls.key: the private key holds no PEM block"},
	} {
		data := map[string][]byte{}
		maps.Copy(data, in.data)
		data[tc.key] = []byte("precious")
		_, err := settings("").Encode(data)
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) || strings.Contains(err.Error(), "precious") {
			t.Errorf("%s: %v, want %s", name, err, tc.want)
		}
	}
	unknown := settings("Modern2099")
	if _, err := unknown.Encode(in.data); err == nil || !strings.Contains(err.Error(), `unknown profile "Modern2099"`) {
		t.Errorf("an unknown profile: %v", err)
	}
}

func TestTheSealChangesWithEverythingThatIsInTheFilesAndWithNothingElse(t *testing.T) {
	in := newContent(t, pki.ECDSAP256)
	chosen := settings(keystore.Modern2023)
	data := func(change map[string][]byte) map[string][]byte {
		out := map[string][]byte{keystore.FileKeyPKCS12: []byte("a"), keystore.FileTrustPKCS12: []byte("b"), keystore.FileKeyJKS: []byte("c"), keystore.FileTrustJKS: []byte("d")}
		for _, all := range []map[string][]byte{in.data, change} {
			maps.Copy(out, all)
		}
		return out
	}
	sealed := func(s keystore.Settings, data map[string][]byte) string {
		out, err := s.Seal(data)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	seal := sealed(chosen, data(nil))
	reversed, noProfile := chosen, chosen
	reversed.Formats, noProfile.Profile = []keystore.Format{keystore.JKS, keystore.PKCS12}, ""
	for name, same := range map[string]string{
		"again": sealed(chosen, data(nil)), "the formats in another order": sealed(reversed, data(nil)), "the default profile": sealed(noProfile, data(nil)),
		"a value that is in no file": sealed(chosen, data(map[string][]byte{"tls-combined.pem": []byte("x")})),
	} {
		if same != seal {
			t.Errorf("%s: another seal", name)
		}
	}
	var others []string
	for _, change := range []func(*keystore.Settings){
		func(s *keystore.Settings) { s.Password = credential.SensitiveString("another") },
		func(s *keystore.Settings) { s.Alias = "" },
		func(s *keystore.Settings) { s.Profile = keystore.LegacyDES },
		func(s *keystore.Settings) { s.Formats = s.Formats[:1] },
	} {
		other := settings(keystore.Modern2023)
		change(&other)
		others = append(others, sealed(other, data(nil)))
	}
	for _, key := range []string{"tls.crt", "tls.key", "ca.crt", "keystore.p12", "truststore.p12", "keystore.jks", "truststore.jks"} {
		others = append(others, sealed(chosen, data(map[string][]byte{key: []byte("changed")})))
	}
	// A value that moves from one file to the next is a difference, too.
	others = append(others, sealed(chosen, data(map[string][]byte{keystore.FileKeyJKS: []byte("cd"), keystore.FileTrustJKS: nil})), seal)
	slices.Sort(others)
	if count := len(slices.Compact(others)); count != 13 {
		t.Errorf("%d different seals, want 13", count)
	}
	if strings.Contains(seal, password) || len(seal) != 64 {
		t.Errorf("the seal is %d characters long", len(seal))
	}
}
