// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package oddfiles

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Algorithm is a kind of key that openssl can create.
type Algorithm string

// The kinds of keys. rekey supports those up to Ed25519.
const (
	P256       Algorithm = "ECDSA P-256"
	P384       Algorithm = "ECDSA P-384"
	P521       Algorithm = "ECDSA P-521"
	RSA        Algorithm = "RSA-2048"
	RSAPSSSign Algorithm = "RSA-2048 that signs with PSS"
	Ed25519    Algorithm = "Ed25519"
	RSAPSS     Algorithm = "RSA-PSS"
	RSA1024    Algorithm = "RSA-1024"
	Ed448      Algorithm = "Ed448"
	Brainpool  Algorithm = "brainpoolP256r1"
	Secp256k1  Algorithm = "secp256k1"
	Explicit   Algorithm = "P-256 with explicit parameters"
	DSA        Algorithm = "DSA"
)

// generate holds the arguments of openssl genpkey; DSA first needs parameters.
var generate = map[Algorithm][]string{
	P256:       {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"},
	P384:       {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"},
	P521:       {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"},
	RSA:        {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
	RSAPSSSign: {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"},
	Ed25519:    {"-algorithm", "ED25519"},
	RSAPSS:     {"-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"},
	RSA1024:    {"-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"},
	Ed448:      {"-algorithm", "ED448"},
	Brainpool:  {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:brainpoolP256r1", "-pkeyopt", "ec_param_enc:named_curve"},
	Secp256k1:  {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:secp256k1"},
	Explicit:   {"-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit"},
	DSA:        {"-paramfile", "parameters.pem"},
}

// Signature algorithms, as AlgorithmIdentifier in DER.
var signatures = map[string]string{
	"RSA SHA256":   "300d06092a864886f70d01010b0500",
	"RSA SHA1":     "300d06092a864886f70d0101050500",
	"ECDSA SHA256": "300a06082a8648ce3d040302",
	"ECDSA SHA1":   "300906072a8648ce3d0401",
	"DSA SHA256":   "300b0609608648016503040302",
	"Ed25519":      "300506032b6570",
	"Ed448":        "300506032b6571",
	// SHA-256, MGF1 with SHA-256, a salt of 32 bytes.
	"PSS": "304106092a864886f70d01010a3034a00f300d06096086480165030402010500a11c301a06092a864886f70d010108300d06096086480165030402010500a203020120",
}

// Key is a key pair. openssl holds the private key and signs with it, whatever its kind.
type Key struct {
	Algorithm Algorithm
	// PEM is the private key as PKCS#8.
	PEM  []byte
	spki []byte
	id   []byte
	// signer is the private key for Go; nil if Go does not support its kind, and openssl signs with key.pem in folder.
	signer crypto.Signer
	folder string
}

// family is the part of signature algorithm names that stands for the key.
func (k *Key) family() string {
	switch k.Algorithm {
	case RSA, RSA1024:
		return "RSA"
	case RSAPSS, RSAPSSSign:
		return "PSS"
	case DSA:
		return "DSA"
	case Ed25519, Ed448:
		return string(k.Algorithm)
	}
	return "ECDSA"
}

func (k *Key) algorithm(digest string) []byte {
	name := k.family()
	if _, ok := signatures[name]; !ok {
		name += " " + digest
	}
	der, err := hex.DecodeString(signatures[name])
	if err != nil || len(der) == 0 {
		panic("no signature algorithm " + name)
	}
	return der
}

// sign signs a message: with Go, or with openssl if Go cannot.
func (k *Key) sign(tb testing.TB, message []byte, digest string) []byte {
	tb.Helper()
	if k.signer == nil {
		return k.signByCommand(tb, message, digest)
	}
	var options crypto.SignerOpts = crypto.SHA256
	hashed := message
	switch {
	case k.Algorithm == Ed25519:
		options = crypto.Hash(0)
	case digest == "SHA1":
		sum := sha1.Sum(message)
		options, hashed = crypto.SHA1, sum[:]
	default:
		sum := sha256.Sum256(message)
		hashed = sum[:]
	}
	if k.family() == "PSS" {
		options = &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: crypto.SHA256}
	}
	signature, err := k.signer.Sign(rand.Reader, hashed, options)
	if err != nil {
		tb.Fatalf("signing with %s: %v", k.Algorithm, err)
	}
	return signature
}

func (k *Key) signByCommand(tb testing.TB, message []byte, digest string) []byte {
	tb.Helper()
	if err := os.WriteFile(filepath.Join(k.folder, "message"), message, 0o600); err != nil {
		tb.Fatal(err)
	}
	args := []string{"dgst", "-" + digest, "-sign", "key.pem"}
	switch k.family() {
	case "PSS":
		args = append(args, "-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:32", "-sigopt", "rsa_mgf1_md:sha256")
	case string(Ed448):
		args = []string{"pkeyutl", "-sign", "-inkey", "key.pem", "-rawin", "-in"}
	}
	return openssl(tb, k.folder, append(args, "message")...)
}

// Keyring creates keys, each once.
type Keyring struct {
	owner testing.TB
	keys  map[string]*Key
}

// NewKeyring returns a keyring with keys that last as long as the test.
func NewKeyring(tb testing.TB) *Keyring {
	tb.Helper()
	return &Keyring{owner: tb, keys: map[string]*Key{}}
}

// Key returns key number n of an algorithm.
func (r *Keyring) Key(tb testing.TB, algorithm Algorithm, n int) *Key {
	tb.Helper()
	label := fmt.Sprintf("%s %d", algorithm, n)
	if known := r.keys[label]; known != nil {
		return known
	}
	folder := r.owner.TempDir()
	if algorithm == DSA {
		openssl(tb, folder, "genpkey", "-genparam", "-algorithm", "DSA", "-pkeyopt", "dsa_paramgen_bits:1024", "-out", "parameters.pem")
	}
	private := openssl(tb, folder, append([]string{"genpkey"}, generate[algorithm]...)...)
	if err := os.WriteFile(filepath.Join(folder, "key.pem"), private, 0o600); err != nil {
		tb.Fatal(err)
	}
	public, _ := pem.Decode(openssl(tb, folder, "pkey", "-in", "key.pem", "-pubout"))
	if public == nil {
		tb.Fatalf("openssl printed no public key of %s", label)
	}
	var info struct {
		Algorithm asn1.RawValue
		Key       asn1.BitString
	}
	if _, err := asn1.Unmarshal(public.Bytes, &info); err != nil {
		tb.Fatal(err)
	}
	id := sha1.Sum(info.Key.Bytes) // The usual key identifier (RFC 5280, section 4.2.1.2).
	key := &Key{Algorithm: algorithm, PEM: private, spki: public.Bytes, id: id[:], folder: folder}
	block, _ := pem.Decode(private)
	if parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil && algorithm != RSA1024 {
		key.signer, _ = parsed.(crypto.Signer)
	}
	r.keys[label] = key
	return key
}

// openssl runs the command in a folder and returns its output.
func openssl(tb testing.TB, folder string, args ...string) []byte {
	tb.Helper()
	path, err := exec.LookPath("openssl")
	if err != nil {
		tb.Fatal("the command openssl was not found; run hack/install-deps.sh test")
	}
	command := exec.CommandContext(tb.Context(), path, args...)
	command.Dir = folder
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		tb.Fatalf("openssl %v: %v: %s", args, err, stderr.String())
	}
	return out
}
