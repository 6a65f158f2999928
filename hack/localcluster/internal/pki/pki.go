// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"
)

// validity is long enough for any use of a throw-away cluster.
const validity = 30 * 24 * time.Hour

// Authority signs the certificates of one cluster and writes them below Dir.
type Authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

// Subject is the subject of a certificate.
type Subject struct {
	Name   string
	Groups []string
	DNS    []string
	IPs    []net.IP
}

// Pair is the files of a certificate and its key.
type Pair struct {
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

// New creates a CA and writes its certificate to ca.crt in dir.
func New(dir string) (*Authority, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("creating the folder for certificates: %w", err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generating the CA's key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "rekey local cluster"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(validity),
		IsCA:         true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("signing the CA: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parsing the CA's certificate: %w", err)
	}
	a := &Authority{dir: dir, cert: cert, key: key, pem: encode("CERTIFICATE", der)}
	if err := os.WriteFile(a.CertFile(), a.pem, 0o644); err != nil {
		return nil, fmt.Errorf("writing the CA's certificate: %w", err)
	}
	return a, nil
}

// CertFile returns the file with the CA's certificate.
func (a *Authority) CertFile() string { return filepath.Join(a.dir, "ca.crt") }

// Issue creates a key and a certificate for both sides of TLS, and writes them to
// <file>.crt and <file>.key.
func (a *Authority) Issue(file string, subject Subject) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("generating the key of %s: %w", file, err)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return Pair{}, fmt.Errorf("generating a serial number: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial,
		Subject:      pkix.Name{CommonName: subject.Name, Organization: subject.Groups},
		DNSNames:     subject.DNS,
		IPAddresses:  subject.IPs,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(validity),
		KeyUsage:     x509.KeyUsageDigitalSignature,
		ExtKeyUsage:  []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return Pair{}, fmt.Errorf("signing %s: %w", file, err)
	}
	pair := Pair{Cert: filepath.Join(a.dir, file+".crt"), Key: filepath.Join(a.dir, file+".key")}
	if err := os.WriteFile(pair.Cert, encode("CERTIFICATE", der), 0o644); err != nil {
		return Pair{}, fmt.Errorf("writing the certificate of %s: %w", file, err)
	}
	return pair, writeKey(pair.Key, key)
}

// SigningKey creates a key pair without a certificate, for service account tokens,
// and writes it to <file>.pub and <file>.key.
func (a *Authority) SigningKey(file string) (Pair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, fmt.Errorf("generating the key of %s: %w", file, err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return Pair{}, fmt.Errorf("encoding the key of %s: %w", file, err)
	}
	pair := Pair{Cert: filepath.Join(a.dir, file+".pub"), Key: filepath.Join(a.dir, file+".key")}
	if err := os.WriteFile(pair.Cert, encode("PUBLIC KEY", public), 0o644); err != nil {
		return Pair{}, fmt.Errorf("writing the key of %s: %w", file, err)
	}
	return pair, writeKey(pair.Key, key)
}

// Kubeconfig issues a client certificate and writes a kubeconfig that uses it
// and needs no other file.
func (a *Authority) Kubeconfig(path, server string, subject Subject) (Pair, error) {
	pair, err := a.Issue("client-"+filepath.Base(path), subject)
	if err != nil {
		return Pair{}, err
	}
	cert, err := os.ReadFile(pair.Cert)
	if err != nil {
		return Pair{}, fmt.Errorf("reading a certificate back: %w", err)
	}
	key, err := os.ReadFile(pair.Key)
	if err != nil {
		return Pair{}, fmt.Errorf("reading a key back: %w", err)
	}
	const name = "rekey-local"
	config := map[string]any{ // JSON is YAML, so this is a kubeconfig; []byte becomes base64
		"apiVersion": "v1", "kind": "Config", "current-context": name,
		"clusters": []any{map[string]any{"name": name, "cluster": map[string]any{
			"server": server, "certificate-authority-data": a.pem}}},
		"users": []any{map[string]any{"name": name, "user": map[string]any{
			"client-certificate-data": cert, "client-key-data": key}}},
		"contexts": []any{map[string]any{"name": name, "context": map[string]any{
			"cluster": name, "user": name}}},
	}
	data, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return Pair{}, fmt.Errorf("encoding a kubeconfig: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o600); err != nil {
		return Pair{}, fmt.Errorf("writing a kubeconfig: %w", err)
	}
	return pair, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encoding a key: %w", err)
	}
	if err := os.WriteFile(path, encode("EC PRIVATE KEY", der), 0o600); err != nil {
		return fmt.Errorf("writing a key: %w", err)
	}
	return nil
}

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}
