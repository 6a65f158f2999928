// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package oddfiles

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// topology defines which certificates exist, which of them has signed which, and which file holds them.
type topology struct {
	name   string
	build  func(*maker) files
	cause  string
	policy string
	// alone means that there is no certificate above the one that signs.
	alone bool
}

const (
	noPath   = `(?i)no path|breaks off|not in ca\.crt|has not signed`
	isFull   = `(?i)at most \d+|\d+ certificates|\d+ bytes`
	notKeyOf = `(?i)not the key`
)

// plain is the most common chain: an intermediate in tls.crt, its root in ca.crt.
var plain = topology{name: "an intermediate, its root in ca.crt", build: func(m *maker) files {
	root := m.root()
	return files{certificate: []authority{m.signer(&root)}, anchors: []authority{root}}
}}

// selfSigned is a root that signs leaves itself.
var selfSigned = topology{name: "a root alone", alone: true, build: func(m *maker) files {
	root := m.signer(nil)
	return files{certificate: []authority{root}, trusted: []authority{root}}
}}

// below makes a topology of an intermediate below the root, with other certificates in the two files.
func below(name string, change func(*maker, authority, authority) files) topology {
	return topology{name: name, build: func(m *maker) files {
		root := m.root()
		return change(m, m.signer(&root), root)
	}}
}

func topologies() []topology {
	return slices.Concat([]topology{selfSigned, plain}, ordinary(), crossSigned(), renewed(), extras(), bundles(), broken())
}

// ordinary are chains as manuals describe them.
func ordinary() []topology {
	return []topology{
		{name: "a root in both files", alone: true, build: func(m *maker) files {
			root := m.signer(nil)
			return files{certificate: []authority{root}, anchors: []authority{root}}
		}},
		below("an intermediate and its root in tls.crt", func(_ *maker, signer, root authority) files {
			return files{certificate: []authority{signer, root}, trusted: []authority{root}}
		}),
		below("an intermediate and its root in tls.crt, the root in ca.crt too", func(_ *maker, signer, root authority) files {
			return files{certificate: []authority{signer, root}, anchors: []authority{root}}
		}),
		below("an intermediate without anything above it", func(_ *maker, signer, _ authority) files {
			return files{certificate: []authority{signer}, trusted: []authority{signer}, partial: true}
		}),
		{name: "two intermediates, the root in ca.crt", build: func(m *maker) files {
			root := m.root()
			middle := m.middle(&root)
			return files{certificate: []authority{m.signer(&middle), middle}, anchors: []authority{root}}
		}},
		{name: "two intermediates, the upper one in ca.crt beside the root", build: func(m *maker) files {
			root := m.root()
			middle := m.middle(&root)
			return files{certificate: []authority{m.signer(&middle)}, anchors: []authority{middle, root}}
		}},
		{name: "two intermediates, the upper one in ca.crt without the root", build: func(m *maker) files {
			root := m.root()
			middle := m.middle(&root)
			return files{certificate: []authority{m.signer(&middle)}, anchors: []authority{middle}, partial: true}
		}},
		{name: "two intermediates in the wrong order", build: func(m *maker) files {
			root := m.root()
			middle := m.middle(&root)
			return files{certificate: []authority{m.signer(&middle), root, middle}, anchors: []authority{root}}
		}},
		{name: "five intermediates", build: func(m *maker) files {
			root := m.root()
			chain := []authority{root}
			for n := range 4 {
				chain = append(chain, m.make(fmt.Sprintf("Example Middle CA %d", n), m.key(P256, keyOfMiddle+10+n), &chain[len(chain)-1], nil))
			}
			chain = append(chain, m.signer(&chain[len(chain)-1]))
			slices.Reverse(chain)
			return files{certificate: chain[:5], anchors: []authority{root}}
		}},
	}
}

// crossSigned are roots that another root has certified too.
func crossSigned() []topology {
	crossing := func(name string, anchors func(root, old authority) []authority, changes ...func(*profile)) topology {
		return topology{name: name, build: func(m *maker) files {
			old := m.oldRoot()
			root := m.root()
			return files{certificate: []authority{m.signer(&root), m.cross(root, old, changes...)}, anchors: anchors(root, old)}
		}}
	}
	return []topology{
		crossing("a root that is cross-signed, and trusted itself", func(root, _ authority) []authority { return []authority{root} }),
		crossing("a root that is cross-signed, where the old root is trusted", func(_, old authority) []authority { return []authority{old} }),
		crossing("a root that is cross-signed, where both roots are trusted", func(root, old authority) []authority { return []authority{old, root} }),
		crossing("a root with an expired cross certificate, and trusted itself", func(root, _ authority) []authority { return []authority{root} }, expired),
		crossing("a root with a cross certificate that is not valid yet, and trusted itself", func(root, _ authority) []authority { return []authority{root} }, notYet),
		crossing("a root with a cross certificate with path length 0, and trusted itself", func(root, _ authority) []authority { return []authority{root} },
			func(p *profile) { p.pathLength = 0 }),
		crossing("a root with an expired cross certificate, and both roots trusted", func(root, old authority) []authority { return []authority{old, root} }, expired),
		{name: "a root cross-signed by an expired root, and trusted itself", build: func(m *maker) files {
			old := m.oldRoot(expired)
			root := m.root()
			return files{certificate: []authority{m.signer(&root), m.cross(root, old)}, anchors: []authority{root, old}}
		}},
		{name: "two roots that have signed each other, with both cross certificates", build: func(m *maker) files {
			old, root := m.oldRoot(), m.root()
			return files{certificate: []authority{m.signer(&root), m.cross(root, old), m.cross(old, root)}, anchors: []authority{root}}
		}},
		{name: "two roots that have signed each other, where the other one is trusted", build: func(m *maker) files {
			old, root := m.oldRoot(), m.root()
			return files{certificate: []authority{m.signer(&root), m.cross(old, root), m.cross(root, old)}, anchors: []authority{old}}
		}},
		{name: "an intermediate that was moved to another root, with both certificates", build: func(m *maker) files {
			old, root := m.oldRoot(), m.root()
			signer := m.signer(&root)
			return files{certificate: []authority{signer, m.cross(signer, old)}, anchors: []authority{root}}
		}},
		{name: "an intermediate that was moved to another root, with only the second certificate leading to ca.crt", build: func(m *maker) files {
			old, root := m.oldRoot(), m.root()
			signer := m.signer(&root)
			return files{certificate: []authority{m.cross(signer, old), signer}, anchors: []authority{root}}
		}},
	}
}

// renewed are roots and intermediates that continue with the same key, or with the same name only.
func renewed() []topology {
	return []topology{
		{name: "an expired root in tls.crt, the same root renewed in ca.crt", build: func(m *maker) files {
			root := m.root()
			return files{certificate: []authority{m.signer(&root), m.again(root, expired)}, anchors: []authority{root}}
		}},
		{name: "an expired root in ca.crt before the same root renewed", build: func(m *maker) files {
			root := m.root()
			return files{certificate: []authority{m.signer(&root)}, anchors: []authority{m.again(root, expired), root}}
		}},
		{name: "a root in tls.crt, the same root renewed for longer in ca.crt", build: func(m *maker) files {
			root := m.root()
			return files{certificate: []authority{m.signer(&root), root}, anchors: []authority{m.again(root, long)}}
		}},
		{name: "a root in three generations of one key in ca.crt", build: func(m *maker) files {
			root := m.root()
			return files{certificate: []authority{m.signer(&root)}, anchors: []authority{m.again(root, notYet), m.again(root, expired), root}}
		}},
		{name: "an expired intermediate of the same key after the renewed one", build: func(m *maker) files {
			root := m.root()
			signer := m.signer(&root)
			return files{certificate: []authority{signer, m.cross(signer, root, expired)}, anchors: []authority{root}}
		}},
		{name: "an expired intermediate of the same key before the renewed one", build: func(m *maker) files {
			root := m.root()
			signer := m.signer(&root)
			return files{certificate: []authority{m.cross(signer, root, expired), signer}, anchors: []authority{root}}
		}},
		{name: "an upper intermediate in two generations, the expired one first", build: func(m *maker) files {
			root := m.root()
			middle := m.middle(&root)
			return files{certificate: []authority{m.signer(&middle), m.cross(middle, root, expired), middle}, anchors: []authority{root}}
		}},
		below("another root of the same name and another key before the right one in ca.crt", func(m *maker, signer, root authority) files {
			decoy := m.other("Decoy", func(p *profile) { p.name = root.name })
			return files{certificate: []authority{signer}, anchors: []authority{decoy, root}}
		}),
		below("another root of the same name, another key and no key identifier before the right one in ca.crt", func(m *maker, signer, root authority) files {
			decoy := m.other("Decoy", func(p *profile) { p.name, p.noKeyID, p.noAuthKey = root.name, true, true })
			return files{certificate: []authority{signer}, anchors: []authority{decoy, root}}
		}),
		{name: "an authority key identifier with issuer and serial number", build: func(m *maker) files {
			root := m.root()
			full := encode(m, struct {
				ID     []byte          `asn1:"optional,tag:0"`
				Issuer []asn1.RawValue `asn1:"optional,tag:1"`
				Serial *big.Int        `asn1:"tag:2"`
			}{root.key.id, []asn1.RawValue{{Class: asn1.ClassContextSpecific, Tag: 4, IsCompound: true, Bytes: root.name}}, root.serial})
			signer := m.signer(&root, func(p *profile) {
				p.noAuthKey = true
				p.extensions = append(p.extensions, pkix.Extension{Id: oidAuthorityKey, Value: full})
			})
			return files{certificate: []authority{signer}, anchors: []authority{root}}
		}},
	}
}

// extras are certificates that no peer needs.
func extras() []topology {
	return []topology{
		below("the intermediate twice", func(_ *maker, signer, root authority) files {
			return files{certificate: []authority{signer, signer}, anchors: []authority{root}}
		}),
		below("the root twice in tls.crt and twice in ca.crt", func(_ *maker, signer, root authority) files {
			return files{certificate: []authority{signer, root, root}, anchors: []authority{root, root}}
		}),
		below("an unrelated root after the intermediate", func(m *maker, signer, root authority) files {
			return files{certificate: []authority{signer, m.other("Other CA")}, anchors: []authority{root}}
		}),
		below("an unrelated expired root between intermediate and root", func(m *maker, signer, root authority) files {
			return files{certificate: []authority{signer, m.other("Other CA", expired), root}, anchors: []authority{root}}
		}),
		below("a certificate of an end entity after the intermediate", func(m *maker, signer, root authority) files {
			return files{certificate: []authority{signer, m.leaf(signer)}, anchors: []authority{root}}
		}),
		below("unrelated roots around the right one in ca.crt", func(m *maker, signer, root authority) files {
			return files{certificate: []authority{signer}, anchors: []authority{m.other("A CA"), root, m.other("B CA")}}
		}),
		below("an unrelated expired root in ca.crt", func(m *maker, signer, root authority) files {
			return files{certificate: []authority{signer}, anchors: []authority{m.other("A CA", expired), root}}
		}),
		below("an unrelated X.509 v1 root in ca.crt", func(m *maker, signer, root authority) files {
			return files{certificate: []authority{signer}, anchors: []authority{m.other("A CA", func(p *profile) { p.version = 1 }), root}}
		}),
		below("a certificate of an end entity in ca.crt", func(m *maker, signer, root authority) files {
			return files{certificate: []authority{signer}, anchors: []authority{root, m.leaf(signer)}}
		}),
		below("an unrelated root with a key that Go does not support in ca.crt", func(m *maker, signer, root authority) files {
			odd := m.make("Odd CA", m.key(Ed448, keyOfOthers), nil, nil)
			return files{certificate: []authority{signer}, anchors: []authority{odd, root}}
		}),
		below("an unrelated root on a curve that Go does not support in ca.crt", func(m *maker, signer, root authority) files {
			odd := m.make("Odd CA", m.key(Brainpool, keyOfOthers), nil, nil)
			return files{certificate: []authority{signer}, anchors: []authority{odd, root}}
		}),
		below("an unrelated root with a negative serial number in ca.crt", func(m *maker, signer, root authority) files {
			odd := m.other("Odd CA", func(p *profile) { p.serial.Neg(p.serial) })
			return files{certificate: []authority{signer}, anchors: []authority{root, odd}}
		}),
		below("the intermediate in ca.crt beside its root", func(_ *maker, signer, root authority) files {
			return files{certificate: []authority{signer}, anchors: []authority{signer, root}}
		}),
		below("the intermediate in ca.crt alone", func(_ *maker, signer, _ authority) files {
			return files{certificate: []authority{signer}, anchors: []authority{signer}, partial: true}
		}),
	}
}

// bundles are many roots in ca.crt, up to the limits and beyond them.
func bundles() []topology {
	bundle := func(name string, count, padding int, rightFirst bool, policy string) topology {
		return below(name, func(m *maker, signer, root authority) files {
			var others []authority
			for n := range count {
				others = append(others, m.other(fmt.Sprintf("Corporate CA %d", n), comment(m, padding)))
			}
			if rightFirst {
				return files{certificate: []authority{signer}, anchors: slices.Concat([]authority{root}, others)}
			}
			return files{certificate: []authority{signer}, anchors: append(others, root)}
		}).refusedAs(isFull, policy)
	}
	const full = "a bundle beyond the limits is refused"
	return []topology{
		bundle("a bundle of 31 in ca.crt, the right root first", 30, 1000, true, ""),
		bundle("a bundle of 61 in ca.crt, the right root first", 60, 1000, true, ""),
		bundle("a bundle of 145 in ca.crt, the right root last", 144, 700, false, ""),
		bundle("a bundle of 380 small ones in ca.crt", 379, 0, false, ""),
		bundle("a bundle of 1200 in ca.crt", 1200, 0, true, full),
		bundle("a bundle of 1 MB in ca.crt", 300, 2400, true, full),
		below("thirty unrelated certificates after the intermediate", func(m *maker, signer, root authority) files {
			out := []authority{signer}
			for n := range 30 {
				out = append(out, m.other(fmt.Sprintf("Other CA %d", n)))
			}
			return files{certificate: out, anchors: []authority{root}}
		}).refusedAs(isFull, ""),
	}
}

func (t topology) refusedAs(cause, policy string) topology {
	t.cause, t.policy = cause, policy
	return t
}

// comment makes a certificate longer.
func comment(m *maker, length int) func(*profile) {
	return func(p *profile) {
		if length > 0 {
			with(extension(oidComment, false, strings.Repeat("x", length)))(m, p)
		}
	}
}

// broken are chains that lead nowhere.
func broken() []topology {
	return []topology{
		below("another root in ca.crt", func(m *maker, signer, _ authority) files {
			return files{certificate: []authority{signer}, anchors: []authority{m.other("Other CA")}}
		}).refusedAs(noPath, ""),
		below("its root in tls.crt, another root in ca.crt", func(m *maker, signer, root authority) files {
			return files{certificate: []authority{signer, root}, anchors: []authority{m.other("Other CA")}}
		}).refusedAs(noPath, ""),
		topology{name: "two intermediates, the upper one missing", build: func(m *maker) files {
			root := m.root()
			middle := m.middle(&root)
			return files{certificate: []authority{m.signer(&middle)}, anchors: []authority{root}}
		}}.refusedAs(noPath, ""),
		topology{name: "an upper intermediate that has expired", build: func(m *maker) files {
			root := m.root()
			middle := m.middle(&root, expired)
			return files{certificate: []authority{m.signer(&middle), middle}, anchors: []authority{root}}
		}}.refusedAs(`(?i)expired`, ""),
		topology{name: "an upper intermediate that is not an authority", build: func(m *maker) files {
			root := m.root()
			middle := m.middle(&root, func(p *profile) { p.basic = "FALSE" })
			return files{certificate: []authority{m.signer(&middle), middle}, anchors: []authority{root}}
		}}.refusedAs(`CA:TRUE`, ""),
		topology{name: "an upper intermediate with path length 0", build: func(m *maker) files {
			root := m.root()
			middle := m.middle(&root, func(p *profile) { p.pathLength = 0 })
			return files{certificate: []authority{m.signer(&middle), middle}, anchors: []authority{root}}
		}}.refusedAs(`path length`, ""),
		below("an intermediate with a signature by another key", func(m *maker, _, root authority) files {
			forged := root
			forged.key = m.key(P256, keyOfOthers)
			return files{certificate: []authority{m.signer(&forged)}, anchors: []authority{root}}
		}).refusedAs(noPath, ""),
		below("the root before the intermediate in tls.crt", func(_ *maker, signer, root authority) files {
			return files{certificate: []authority{root, signer}, anchors: []authority{root}}
		}).refusedAs(notKeyOf, ""),
		topology{name: "the certificate of another key", build: func(m *maker) files {
			root := m.root()
			return files{certificate: []authority{m.middle(&root)}, anchors: []authority{root}}
		}}.refusedAs(notKeyOf, ""),
		below("an expired root in ca.crt alone", func(m *maker, signer, root authority) files {
			return files{certificate: []authority{signer}, anchors: []authority{m.again(root, expired)}}
		}).refusedAs(`(?i)expired`, ""),
	}
}
