// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"slices"
	"testing"
	"time"
)

// fileOf returns a file with that many different certificates.
func fileOf(tb testing.TB, count int) []byte {
	tb.Helper()
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	var out []byte
	for i := range count {
		template := &x509.Certificate{SerialNumber: big.NewInt(int64(i) + 1), Subject: pkix.Name{CommonName: fmt.Sprint("authority ", i)},
			NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<32, 0), IsCA: true, BasicConstraintsValid: true}
		der, err := x509.CreateCertificate(rand.Reader, template, template, public, private)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: labelCertificate, Bytes: der})...)
	}
	return out
}

// readers are the functions that read a file of certificates.
var readers = map[string]func([]byte) ([]*x509.Certificate, error){
	"as rekey writes it": ParseCertificates,
	"as users provide it": func(data []byte) ([]*x509.Certificate, error) {
		bundle, err := ParseBundle(data)
		return bundle.Certificates, err
	},
}

// A reconcile reads a certificate and its ca.crt several times, and the next one reads the same ca.crt.
func TestAFileOfAnySizeIsParsedOnceInAReconcile(t *testing.T) {
	small := fileOf(t, 1)
	for _, count := range []int{1, maxRemembered, maxRemembered + 1, 400} {
		file := fileOf(t, count)
		for name, read := range readers {
			t.Run(fmt.Sprintf("%d certificates, %s", count, name), func(t *testing.T) {
				first, err := read(file)
				if err != nil || len(first) != count {
					t.Fatalf("%d certificates, %v", len(first), err)
				}
				for range 3 {
					if _, err := read(small); err != nil {
						t.Fatal(err)
					}
					again, err := read(slices.Clone(file))
					if err != nil {
						t.Fatal(err)
					}
					if !slices.Equal(first, again) { // pointers
						t.Fatal("the file was parsed again")
					}
				}
			})
		}
	}
}

func TestFewLargeFilesAreRemembered(t *testing.T) {
	for range 5 * largeFiles {
		file := fileOf(t, maxRemembered+1)
		for name, read := range readers {
			if _, err := read(file); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
		}
	}
	for name, held := range map[string]int{"files": parsed.large.Len(), "bundles": bundles.large.Len()} {
		if held > 2*largeFiles {
			t.Errorf("%d large %s are remembered, want at most %d", held, name, 2*largeFiles)
		}
	}
}

// BenchmarkReadingALargeFile measures what a ca.crt with a corporate bundle costs each time a reconcile reads it.
func BenchmarkReadingALargeFile(b *testing.B) {
	file := fileOf(b, 400)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := ParseCertificates(file); err != nil {
			b.Fatal(err)
		}
	}
}
