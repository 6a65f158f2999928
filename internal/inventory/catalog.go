// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"cmp"
	"crypto/sha256"
	"slices"
	"strings"
	"time"
	"unique"
)

// maxCatalog is the maximum number of certificates in one catalog: about 50 MB.
const maxCatalog = 200_000

// Place is the object that holds a value.
type Place struct {
	// Kind is Secret or ConfigMap.
	Kind, Namespace, Name string
}

// Compare orders places by namespace, kind and name.
func (p Place) Compare(other Place) int {
	return cmp.Or(cmp.Compare(p.Namespace, other.Namespace), cmp.Compare(p.Kind, other.Kind), cmp.Compare(p.Name, other.Name))
}

// Catalog holds the certificates of many objects: of each its hash, validity, subject, issuer and place, and nothing else. It is
// filled by looks: Begin, then Has or Put for each object that exists, then End for each kind that was seen as a whole, which drops
// the objects that no longer exist. It is not safe for concurrent use.
type Catalog struct {
	objects map[place]*object
	items   int
	look    uint32
}

// place is a Place whose common texts are shared.
type place struct {
	kind, namespace unique.Handle[string]
	name            string
}

// object is what a state of an object contains.
type object struct {
	version    string
	look       uint32
	items      []item
	unreadable []Unreadable
	// left is how many certificates were left out because the catalog was full.
	left int
}

// item is an Item whose common texts are shared.
type item struct {
	sha256                   [sha256.Size]byte
	notBefore, notAfter      int64 // Unix time, in seconds
	subject                  string
	issuer, key, entry, leaf unique.Handle[string]
}

// NewCatalog returns an empty catalog.
func NewCatalog() *Catalog { return &Catalog{objects: map[place]*object{}} }

func (p Place) shared() place {
	return place{unique.Make(p.Kind), unique.Make(p.Namespace), p.Name}
}

func (p place) plain() Place { return Place{p.kind.Value(), p.namespace.Value(), p.name} }

// Begin starts a look.
func (c *Catalog) Begin() { c.look++ }

// Has reports whether the catalog has that version of an object, which then counts as seen in this look. One that was left out
// because the catalog was full has to be read again once there is room.
func (c *Catalog) Has(at Place, version string) bool {
	known, ok := c.objects[at.shared()]
	if !ok || known.version != version || known.left > 0 && c.items+known.left <= maxCatalog {
		return false
	}
	known.look = c.look
	return true
}

// Put stores what a version of an object contains. If the catalog is full, the object counts as unreadable.
func (c *Catalog) Put(at Place, version string, found Found) {
	key := at.shared()
	if before, ok := c.objects[key]; ok {
		c.items -= len(before.items)
	} else {
		key.name = strings.Clone(key.name)
	}
	now := &object{version: strings.Clone(version), look: c.look, unreadable: found.Unreadable}
	if c.items+len(found.Items) > maxCatalog {
		now.left, found.Items = len(found.Items), nil
		now.unreadable = []Unreadable{{Reason: "is not watched, because this watch has too many certificates: divide them among several watches"}}
	}
	for _, one := range found.Items {
		now.items = append(now.items, item{
			sha256: one.SHA256, notBefore: one.NotBefore.Unix(), notAfter: one.NotAfter.Unix(), subject: one.Subject,
			issuer: unique.Make(one.Issuer), key: unique.Make(one.Key), entry: unique.Make(one.Entry), leaf: unique.Make(one.Leaf),
		})
	}
	now.items = slices.Clip(now.items)
	c.objects[key] = now
	c.items += len(now.items)
}

// End drops every object of the kind that this look has not seen.
func (c *Catalog) End(kind string) {
	for key, known := range c.objects {
		if known.look != c.look && key.kind.Value() == kind {
			c.items -= len(known.items)
			delete(c.objects, key)
		}
	}
}

// Objects returns the number of objects.
func (c *Catalog) Objects() int { return len(c.objects) }

func (i item) plain() Item {
	return Item{
		Certificate: Certificate{SHA256: i.sha256, NotBefore: time.Unix(i.notBefore, 0).UTC(), NotAfter: time.Unix(i.notAfter, 0).UTC(),
			Subject: i.subject, Issuer: i.issuer.Value()},
		Key: i.key.Value(), Entry: i.entry.Value(), Leaf: i.leaf.Value(),
	}
}
