// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package pki_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"strings"
	"testing"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/pki"
)

// directoryLimits returns a non-critical name constraints extension: list 0 permits, 1 excludes.
func directoryLimits(tb testing.TB, list int, bases ...pkix.RDNSequence) pkix.Extension {
	tb.Helper()
	encode := func(value any) []byte { return must[[]byte](tb)(asn1.Marshal(value)) }
	var subtrees []byte
	for _, base := range bases {
		name := encode(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: encode(base)})
		subtrees = append(subtrees, encode(asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: name})...)
	}
	lists := []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: list, IsCompound: true, Bytes: subtrees}}
	return pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Value: encode(lists)}
}

func organization(name string) pkix.RDNSequence {
	return pkix.Name{Organization: []string{name}}.ToRDNSequence()
}

func ofKind(tag int, value string) pkix.RDNSequence {
	return pkix.RDNSequence{{{Type: asn1.ObjectIdentifier{2, 5, 4, 10}, Value: asn1.RawValue{Tag: tag, Bytes: []byte(value)}}}}
}

func TestSubjectsKeepTheNameConstraintsOnDirectoryNames(t *testing.T) {
	for name, tc := range map[string]struct {
		limits pkix.Extension
		want   string // "" if it may be published
	}{
		"permitted":                          {directoryLimits(t, 0, organization("Example")), ""},
		"permitted, in another spelling":     {directoryLimits(t, 0, organization("  eXample ")), ""},
		"one of two is permitted":            {directoryLimits(t, 0, organization("Bank"), organization("Example")), ""},
		"something else is excluded":         {directoryLimits(t, 1, organization("Bank")), ""},
		"something else is permitted":        {directoryLimits(t, 0, organization("Bank")), `do not permit the subject "CN=app-server,O=Example"`},
		"excluded":                           {directoryLimits(t, 1, organization("Example")), `exclude the subject "CN=app-server,O=Example"`},
		"a longer name is permitted":         {directoryLimits(t, 0, pkix.Name{Organization: []string{"Example"}, CommonName: "other"}.ToRDNSequence()), "do not permit"},
		"permitted, as a UniversalString":    {directoryLimits(t, 0, ofKind(28, "\x00\x00\x00E\x00\x00\x00x\x00\x00\x00a\x00\x00\x00m\x00\x00\x00p\x00\x00\x00l\x00\x00\x00e")), ""},
		"excluded, as a BMPString":           {directoryLimits(t, 1, ofKind(asn1.TagBMPString, "\x00E\x00x\x00a\x00m\x00p\x00l\x00e")), "exclude"},
		"permitted, as no string at all":     {directoryLimits(t, 0, ofKind(asn1.TagOctetString, "Example")), "do not permit"},
		"another kind of name is restricted": {pkix.Extension{Id: asn1.ObjectIdentifier{2, 5, 29, 30}, Value: append([]byte{0x30, 0x16, 0xa0, 0x14, 0x30, 0x12, 0x82, 0x10}, "example.internal"...)}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := authority(t, "root", nil, func(c *x509.Certificate) { c.SubjectKeyId = []byte("root") })
			middle := authority(t, "middle", &root, func(c *x509.Certificate) {
				c.Subject.Organization = []string{"Example"}
				c.SubjectKeyId, c.ExtraExtensions = []byte("middle"), []pkix.Extension{tc.limits}
			})
			leaf := sign(t, leafTemplate(), &middle, pki.ECDSAP256)
			err := pki.Lint(t.Context(), pki.Candidate{Material: materialOf(leaf, middle.pem(), root.pem()), Identity: wanted(), Now: now})
			if tc.want == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want) || fault.ReasonOf(err, "") != fault.CertificateInvalid) {
				t.Errorf("the error is %v, want %q in it", err, tc.want)
			}
		})
	}
}
