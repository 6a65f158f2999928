// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package oddfiles

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"
)

// At is the instant at which every case is verified.
var At = time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)

// The names of every leaf below an authority.
const (
	LeafCommonName   = "app"
	LeafOrganization = "Example"
	LeafDNSName      = "app.example.internal"
	LeafURI          = "spiffe://example.internal/ns/web/sa/app"
	LeafIP           = "10.0.0.1"
	LeafEmail        = "ops@example.com"
)

// Case is the key pair of one authority as a Secret holds it, and one certificate below it.
type Case struct {
	// Name describes it in a sentence, and Forms lists its oddities.
	Name  string
	Forms []string
	// Certificate, Key and Anchors are tls.crt, tls.key and ca.crt; Anchors may be empty.
	Certificate, Key, Anchors []byte
	// Trusted is what peers trust: Anchors, or the root in Certificate.
	Trusted []byte
	// Partial is true if no trust anchor is self-signed, which OpenSSL needs to know.
	Partial bool
	// Leaf is a certificate that the key has signed in the name of the first certificate in Certificate, and LeafKey is its
	// key.
	Leaf    []byte
	LeafKey []byte
	// Causes are regular expressions: if rekey refuses the case, its message matches one of them.
	Causes []string
	// All is true if rekey need accept the case only if all three judges do: name constraints that not all of them enforce.
	All bool
	// Policy is the reason why rekey refuses the case even if every judge accepts it; empty for most.
	Policy string
}

// twist is one oddity of a certificate of an authority.
type twist struct {
	name   string
	apply  func(testing.TB, *profile)
	cause  string
	policy string
	// all is Case.All.
	all bool
}

// plan describes a case before it is built: the oddities of each of its parts.
type plan struct {
	topology            topology
	signer, above       []twist
	signerKey, aboveKey Algorithm
	crtText, caText     textForm
	keyText             keyForm
}

// files are the certificates of a case in the order of its files.
type files struct {
	certificate, anchors []authority
	// trusted is what peers trust if anchors is empty.
	trusted []authority
	partial bool
}

// maker creates the certificates of one plan.
type maker struct {
	testing.TB

	ring    *Keyring
	plan    plan
	serials int64
}

func (m *maker) profile(name string, key *Key) profile {
	m.serials++
	return profile{
		name: subject(m, name), serial: new(big.Int).Add(new(big.Int).Lsh(big.NewInt(0x5eed), 96), big.NewInt(m.serials)),
		from: At.AddDate(-1, 0, 0), until: At.AddDate(3, 0, 0), key: key, version: 3,
		basic: "TRUE", basicCritical: true, pathLength: -1, usage: usageCertSign | usageCRLSign, digest: "SHA256",
	}
}

// key returns key n of an algorithm; n is one of the numbers below.
func (m *maker) key(algorithm Algorithm, n int) *Key { return m.ring.Key(m, algorithm, n) }

// Numbers of keys.
const (
	keyOfSigner = iota
	keyOfRoot
	keyOfOldRoot
	keyOfMiddle
	keyOfOthers
	keyOfLeaf
)

// root creates the root above the signer, odd as planned; change may change it further.
func (m *maker) root(changes ...func(*profile)) authority {
	key := m.key(m.plan.aboveKey, keyOfRoot)
	return m.make("Example Root CA", key, nil, m.plan.above, changes...)
}

// oldRoot returns another root, without oddities.
func (m *maker) oldRoot(changes ...func(*profile)) authority {
	return m.make("Old Root CA", m.key(RSA, keyOfOldRoot), nil, nil, changes...)
}

// middle returns an ordinary intermediate.
func (m *maker) middle(above *authority, changes ...func(*profile)) authority {
	return m.make("Example Middle CA", m.key(P256, keyOfMiddle), above, nil, changes...)
}

// signer creates the certificate of the authority itself, odd as planned: self-signed if above is nil.
func (m *maker) signer(above *authority, changes ...func(*profile)) authority {
	return m.make("Example Issuing CA", m.key(m.plan.signerKey, keyOfSigner), above, m.plan.signer, changes...)
}

// other returns an authority that is unrelated to the case.
func (m *maker) other(name string, changes ...func(*profile)) authority {
	return m.make(name, m.key(P256, keyOfOthers), nil, nil, changes...)
}

func (m *maker) make(name string, key *Key, above *authority, twists []twist, changes ...func(*profile)) authority {
	p := m.profile(name, key)
	for _, twist := range twists {
		twist.apply(m, &p)
	}
	for _, change := range changes {
		change(&p)
	}
	if above == nil {
		return p.sign(m, p.name, p.key)
	}
	return p.sign(m, above.name, above.key)
}

// cross returns a certificate by above of the same key and name as of.
func (m *maker) cross(of authority, above authority, changes ...func(*profile)) authority {
	p := of.profile
	m.serials++
	p.serial = big.NewInt(m.serials + 1<<40)
	for _, change := range changes {
		change(&p)
	}
	return p.sign(m, above.name, above.key)
}

// again renews a root: same name and key, other dates.
func (m *maker) again(of authority, changes ...func(*profile)) authority {
	return m.cross(of, of, changes...)
}

func dates(from, until time.Time) func(*profile) {
	return func(p *profile) { p.from, p.until = from, until }
}

var (
	expired = dates(At.AddDate(-5, 0, 0), At.AddDate(0, -1, 0))
	notYet  = dates(At.AddDate(0, 0, 1), At.AddDate(5, 0, 0))
	long    = dates(At.AddDate(-5, 0, 0), At.AddDate(20, 0, 0))
)

// leaf returns an ordinary certificate below signer, with a name of each kind.
func (m *maker) leaf(signer authority) authority {
	p := m.profile("", m.key(P256, keyOfLeaf))
	p.name = encode(m, []rdnSET{
		{{oidOrganization, text(asn1.TagUTF8String, LeafOrganization)}}, {{oidCommonName, text(asn1.TagUTF8String, LeafCommonName)}},
	})
	p.from, p.until = At.Add(-5*time.Minute), At.Add(24*time.Hour)
	p.basic, p.usage = "", usageDigitalSignature
	p.extensions = []pkix.Extension{
		{Id: oidExtKeyUsage, Value: encode(m, []asn1.ObjectIdentifier{oidServerAuth, oidClientAuth})},
		{Id: oidAltName, Value: encode(m, []asn1.RawValue{
			{Class: asn1.ClassContextSpecific, Tag: 2, Bytes: []byte(LeafDNSName)},
			{Class: asn1.ClassContextSpecific, Tag: 6, Bytes: []byte(LeafURI)},
			{Class: asn1.ClassContextSpecific, Tag: 7, Bytes: []byte{10, 0, 0, 1}},
			{Class: asn1.ClassContextSpecific, Tag: 1, Bytes: []byte(LeafEmail)},
		})},
	}
	return p.sign(m, signer.name, signer.key)
}

// build builds the case of a plan.
func build(tb testing.TB, ring *Keyring, p plan) Case {
	tb.Helper()
	m := &maker{TB: tb, ring: ring, plan: p}
	f := p.topology.build(m)
	signer := f.certificate[0]
	key := m.key(p.signerKey, keyOfSigner)
	signer.key = key // Whatever else the first certificate may be: rekey signs with this one.
	out := Case{
		Certificate: p.crtText.apply(m, pems(f.certificate...)), Key: p.keyText.apply(m, key),
		Partial: f.partial, Leaf: m.leaf(signer).pem(), LeafKey: m.key(P256, keyOfLeaf).PEM,
	}
	if len(f.anchors) > 0 {
		out.Anchors = p.caText.apply(m, pems(f.anchors...))
		out.Trusted = out.Anchors
	} else {
		out.Trusted = pems(f.trusted...)
	}
	out.describe(p)
	return out
}

// describe names the case after its oddities, and collects the reasons why it may be refused.
func (c *Case) describe(p plan) {
	note := func(form, cause, policy string) {
		if form == "" {
			return
		}
		c.Forms = append(c.Forms, form)
		if cause != "" {
			c.Causes = append(c.Causes, cause)
		}
		if policy != "" {
			c.Policy = policy
		}
	}
	note(p.topology.name, p.topology.cause, p.topology.policy)
	for _, twist := range p.signer {
		note("the signing certificate "+twist.name, twist.cause, twist.policy)
	}
	for _, twist := range p.above {
		note("the root "+twist.name, twist.cause, twist.policy)
	}
	if p.signerKey != P256 {
		note("the signing key is "+string(p.signerKey), unsupported[p.signerKey], weak[p.signerKey])
	}
	if p.aboveKey != P256 {
		note("the key of the root is "+string(p.aboveKey), unsupported[p.aboveKey], "")
	}
	for _, file := range []struct {
		where string
		form  textForm
	}{{"tls.crt ", p.crtText}, {"ca.crt ", p.caText}} {
		if file.form.name != "" {
			note(file.where+file.form.name, file.form.cause, file.form.policy)
		}
	}
	if p.keyText.name != "" {
		note("tls.key "+p.keyText.name, p.keyText.cause, p.keyText.policy)
	}
	if slices.ContainsFunc(slices.Concat(p.signer, p.above), func(t twist) bool { return t.all }) {
		c.All, c.Causes = true, append(c.Causes, `name constraints`)
	}
	c.Name = strings.Join(c.Forms, "; ")
}
