// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package oddfiles

import (
	"bytes"
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"regexp"
	"strings"
	"testing"
	"time"
)

// unsupported is the message that refuses a kind of key or signature that Go does not support.
var unsupported = map[Algorithm]string{
	RSAPSS:    notSupported,
	Ed448:     notSupported,
	Brainpool: notSupported,
	Secp256k1: notSupported,
	Explicit:  notSupported,
	DSA:       notSupported,
	RSA1024:   `1024 bits`,
}

// weak are kinds of keys with which rekey does not sign, even if others accept them.
var weak = map[Algorithm]string{RSA1024: "an RSA key of fewer than 2048 bits is too weak"}

// parts are the subjects of twists, by words of their names: a certificate has at most one oddity of each.
var parts = regexp.MustCompile(`subject(?: key)?|serial|valid|ends|expired|SHA-1|may be used|permits|excludes|polic|key usage|basic constraints|CA:|v1|path length|identifier|extension|comment`)

func (t twist) part() string {
	switch part := parts.FindString(t.name); part {
	case "ends", "expired":
		return "valid"
	case "excludes":
		return "permits"
	case "CA:", "v1":
		return "basic constraints"
	case "subject key":
		return "identifier"
	default:
		return part
	}
}

const notSupported = `(?i)not support|unsupported`

// twists are the oddities of a certificate of an authority, apart from its key.
func twists() []twist {
	return append(append(names(), extensionTwists()...), nameConstraints()...)
}

func changes(change func(*profile)) func(testing.TB, *profile) {
	return func(_ testing.TB, p *profile) { change(p) }
}

func named(rdns func() []rdnSET) func(testing.TB, *profile) {
	return func(tb testing.TB, p *profile) {
		tb.Helper()
		p.name = encode(tb, rdns())
	}
}

func one(oid asn1.ObjectIdentifier, tag int, value string) rdnSET {
	return rdnSET{{oid, text(tag, value)}}
}

// names are odd subjects, serial numbers and dates.
func names() []twist {
	const universalString = 28
	serial := func(hex string) func(testing.TB, *profile) {
		return changes(func(p *profile) { p.serial, _ = new(big.Int).SetString(hex, 16) })
	}
	return []twist{
		{name: "has a T61String subject", apply: named(func() []rdnSET {
			return []rdnSET{one(oidOrganization, asn1.TagT61String, "Soci\xe9t\xe9"), one(oidCommonName, asn1.TagT61String, "Root CA")}
		})},
		{name: "has a BMPString subject", apply: named(func() []rdnSET { return []rdnSET{one(oidCommonName, asn1.TagBMPString, "Zertifikat Ä")} })},
		{name: "has a UniversalString subject", cause: `(?i)string type|` + notSupported, apply: named(func() []rdnSET {
			return []rdnSET{one(oidCommonName, universalString, "\x00\x00\x00R\x00\x00\x00o")}
		})},
		{name: "has a PrintableString subject", apply: named(func() []rdnSET { return []rdnSET{one(oidCommonName, asn1.TagPrintableString, "Example CA")} })},
		{name: "has a subject with several values in one RDN", apply: named(func() []rdnSET {
			return []rdnSET{{{oidUnit, text(asn1.TagUTF8String, "PKI")}, {oidCommonName, text(asn1.TagUTF8String, "Example CA")}}}
		})},
		{name: "has a very long subject", apply: named(func() []rdnSET {
			return []rdnSET{one(oidOrganization, asn1.TagUTF8String, strings.Repeat("Long ", 60)), one(oidCommonName, asn1.TagUTF8String, "CA")}
		})},
		{name: "has a subject with 20 units", apply: named(func() []rdnSET {
			var out []rdnSET
			for range 20 {
				out = append(out, one(oidUnit, asn1.TagUTF8String, "unit"))
			}
			return out
		})},
		{name: "has an empty subject", cause: `(?i)subject`, apply: named(func() []rdnSET { return []rdnSET{} })},
		{name: "has a negative serial number", cause: `(?i)negative serial`, apply: serial("-5eed5eed5eed5eed")},
		{name: "has the serial number 0", apply: serial("0")},
		{name: "has the serial number 1", apply: serial("1")},
		{name: "has a serial number of 40 bytes", apply: serial("5e" + strings.Repeat("ed", 39))},
		{name: "is valid until 9999", apply: changes(dates(At.AddDate(-1, 0, 0), time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)))},
		{name: "is valid from 1950 to 2999", apply: changes(dates(time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)))},
		{name: "ends within the hour", apply: changes(dates(At.AddDate(-1, 0, 0), At.Add(50*time.Minute)))},
		{name: "has expired", cause: `(?i)expired`, apply: changes(expired)},
		{name: "is not valid yet", cause: `(?i)not valid before|not yet valid`, apply: changes(notYet)},
		{name: "is signed with SHA-1", cause: `SHA-?1`, apply: changes(func(p *profile) {
			if p.key.family() != "PSS" && p.key.signer != nil && p.key.Algorithm != Ed25519 {
				p.digest = "SHA1"
			}
		})},
	}
}

func with(extensions ...func(testing.TB) pkix.Extension) func(testing.TB, *profile) {
	return func(tb testing.TB, p *profile) {
		tb.Helper()
		for _, extension := range extensions {
			p.extensions = append(p.extensions, extension(tb))
		}
	}
}

func extension(oid asn1.ObjectIdentifier, critical bool, value any) func(testing.TB) pkix.Extension {
	return func(tb testing.TB) pkix.Extension {
		tb.Helper()
		return pkix.Extension{Id: oid, Critical: critical, Value: encode(tb, value)}
	}
}

func extendedUsages(usages ...asn1.ObjectIdentifier) func(testing.TB, *profile) {
	return with(extension(oidExtKeyUsage, false, usages))
}

// extensionTwists are extensions that are absent, not critical, or unusual.
func extensionTwists() []twist {
	policies := []struct{ ID asn1.ObjectIdentifier }{{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 2, 1}}}
	return []twist{
		{name: "has no key usage", apply: changes(func(p *profile) { p.usage = 0 })},
		{name: "has a key usage without keyCertSign", cause: `keyCertSign`, apply: changes(func(p *profile) { p.usage = usageDigitalSignature })},
		{name: "has the key usage keyCertSign alone", apply: changes(func(p *profile) { p.usage = usageCertSign })},
		{name: "has basic constraints that are not critical", apply: changes(func(p *profile) { p.basicCritical = false })},
		{name: "has no basic constraints", cause: `basic constraints`, apply: changes(func(p *profile) { p.basic = "" })},
		{name: "has CA:FALSE", cause: `CA:TRUE`, apply: changes(func(p *profile) { p.basic = "FALSE" })},
		{name: "is an X.509 v1 certificate", cause: `basic constraints|version 1`, apply: changes(func(p *profile) { p.version = 1 })},
		{name: "has no subject key identifier", apply: changes(func(p *profile) { p.noKeyID = true })},
		{name: "has no authority key identifier", apply: changes(func(p *profile) { p.noAuthKey = true })},
		{name: "has no key identifiers and no key usage", apply: changes(func(p *profile) { p.noKeyID, p.noAuthKey, p.usage = true, true, 0 })},
		{name: "has no key identifiers and basic constraints that are not critical", apply: changes(func(p *profile) { p.noKeyID, p.noAuthKey, p.basicCritical = true, true, false })},
		{name: "has a path length of 0", cause: `path length`, apply: changes(func(p *profile) { p.pathLength = 0 })},
		{name: "has a path length of 7", apply: changes(func(p *profile) { p.pathLength = 7 })},
		{name: "may be used for servers only", cause: usageWords, apply: extendedUsages(oidServerAuth)},
		{name: "may be used for clients only", cause: usageWords, apply: extendedUsages(oidClientAuth)},
		{name: "may be used for servers and clients", apply: extendedUsages(oidServerAuth, oidClientAuth)},
		{name: "may be used for anything", apply: extendedUsages(oidAnyUsage)},
		{name: "may be used for code signing only", cause: usageWords, apply: extendedUsages(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 3, 3})},
		{name: "has a policy", apply: with(extension(oidPolicies, false, policies))},
		{name: "has a critical policy", apply: with(extension(oidPolicies, true, policies))},
		{name: "requires an explicit policy", cause: `(?i)polic`, apply: with(extension(oidPolicyLimits, true, struct {
			Require int `asn1:"tag:0"`
		}{0}))},
		{name: "has an unknown extension", apply: with(extension(oidPrivate, false, "private"))},
		{name: "has an unknown critical extension", cause: `critical extension`, apply: with(extension(oidPrivate, true, "private"))},
		{name: "has a comment of 3000 bytes", apply: with(extension(oidComment, false, string(bytes.Repeat([]byte("x"), 3000))))},
	}
}

const usageWords = `(?i)usage`

// subtree is a GeneralSubtree; its base has an implicit tag, except that a directory name has an explicit one.
func subtree(tb testing.TB, tag int, base []byte) asn1.RawValue {
	tb.Helper()
	inner := encode(tb, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: tag == 4, Bytes: base})
	return asn1.RawValue{Tag: asn1.TagSequence, IsCompound: true, Bytes: inner}
}

func limits(excluded, critical bool, tag int, base func(testing.TB) []byte) func(testing.TB, *profile) {
	return func(tb testing.TB, p *profile) {
		tb.Helper()
		list := encode(tb, subtree(tb, tag, base(tb)))
		field := asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: 0, IsCompound: true, Bytes: list}
		if excluded {
			field.Tag = 1
		}
		p.extensions = append(p.extensions, pkix.Extension{Id: oidNameLimits, Critical: critical, Value: encode(tb, []asn1.RawValue{field})})
	}
}

// nameConstraints are those of each kind of name, that the leaf satisfies and that it violates, critical and not.
func nameConstraints() []twist {
	bytesOf := func(value string) func(testing.TB) []byte { return func(testing.TB) []byte { return []byte(value) } }
	directory := func(organization string) func(testing.TB) []byte {
		return func(tb testing.TB) []byte {
			tb.Helper()
			return encode(tb, []rdnSET{one(oidOrganization, asn1.TagUTF8String, organization)})
		}
	}
	const outside = `(?i)constraint`
	kinds := []struct {
		name            string
		tag             int
		inside, outside func(testing.TB) []byte
	}{
		{"DNS names", 2, bytesOf("example.internal"), bytesOf("bank.example")},
		{"URIs", 6, bytesOf("example.internal"), bytesOf("bank.example")},
		{"IP addresses", 7, bytesOf("\x0a\x00\x00\x00\xff\x00\x00\x00"), bytesOf("\xc0\x00\x02\x00\xff\xff\xff\x00")},
		{"email addresses", 1, bytesOf("example.com"), bytesOf("bank.example")},
		{"directory names", 4, directory(LeafOrganization), directory("Bank")},
	}
	var out []twist
	for _, kind := range kinds {
		for _, critical := range []bool{true, false} {
			word := map[bool]string{true: "critically ", false: ""}[critical]
			inside := twist{name: word + "permits " + kind.name + " of the leaf", apply: limits(false, critical, kind.tag, kind.inside)}
			broken := twist{name: word + "permits other " + kind.name + " than those of the leaf", cause: outside, apply: limits(false, critical, kind.tag, kind.outside)}
			excluding := twist{name: word + "excludes the " + kind.name + " of the leaf", cause: outside, apply: limits(true, critical, kind.tag, kind.inside)}
			harmless := twist{name: word + "excludes " + kind.name + " that the leaf does not have", apply: limits(true, critical, kind.tag, kind.outside)}
			if kind.tag == 4 && critical {
				inside.cause, harmless.cause = `(?i)constraints? .*directory names|`+notSupported, `(?i)constraints? .*directory names|`+notSupported
			}
			for _, twist := range []twist{inside, broken, excluding, harmless} {
				twist.all = kind.tag == 4
				out = append(out, twist)
			}
		}
	}
	return out
}
