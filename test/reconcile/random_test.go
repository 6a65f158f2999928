// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package reconcile

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
)

// chance makes choices from the fuzzer's bytes; once they are used up, it always takes the first choice.
type chance struct{ rest []byte }

func (c *chance) next() int {
	if len(c.rest) == 0 {
		return 0
	}
	b := c.rest[0]
	c.rest = c.rest[1:]
	return int(b)
}

func (c *chance) below(n int) int {
	if n < 2 {
		return 0
	}
	if n > 256 {
		return (c.next()<<8 | c.next()) % n
	}
	return c.next() % n
}

// often is true unless the byte is one of a few.
func (c *chance) often() bool { return c.next()%8 != 7 }

func pick[T any](c *chance, from []T) T { return from[c.below(len(from))] }

// raw returns up to n unchanged bytes.
func (c *chance) raw(n int) []byte {
	n = min(n, c.next())
	n = min(n, len(c.rest))
	out := c.rest[:n]
	c.rest = c.rest[n:]
	return out
}

// There are few names, so that objects refer to one another; words are what users and attackers write.
var (
	names = []string{"one", "two", "own", "admin", "x"}
	words = []string{"app", "*", "orders", "orders_owner", "pg_x", "postgres", "a'; DROP ROLE x; --", `a"b`, "\u00e9\u00e8", strings.Repeat("\u20ac", 63), "${x}", "%s%n", "\x00", "a\nb",
		"*.example.internal", "a.example.internal", "spiffe://example.internal/*", "spiffe://example.internal/a", "10.0.0.1", "fd00::1", "10.0.0.0/8", "ops@example.com", "example.com",
		"db.data:5432", "127.0.0.1:1", "[fd00::1]:5432", strings.Repeat("x", 253), "rekey.dev/owner", "kubernetes.io/name", "true", "0", "now"}
	durations = []string{"24h", "1h", "720h", "1m", "30s", "1s", "43800h", "0s", "876000h", "8h", "3d", "-1h", "1ms"}
)

// value returns a value for a schema: mostly an allowed one, with most required fields.
func (c *chance) value(path string, s *structuralschema.Structural) any {
	switch s.Type {
	case "object":
		return c.object(path, s)
	case "array":
		var out []any
		for range c.below(4) {
			out = append(out, c.value(path+"[]", s.Items))
		}
		return out
	case "boolean":
		return !c.often()
	case "integer":
		return int64(pick(c, []int{32, 0, 1, 16, 128, 129, -1, 10, 50, 1 << 40}))
	}
	return c.text(path, s)
}

func (c *chance) object(path string, s *structuralschema.Structural) any {
	out := map[string]any{}
	if s.AdditionalProperties != nil && s.AdditionalProperties.Structural != nil {
		for range c.below(4) {
			out[pick(c, words)] = c.value(path+"{}", s.AdditionalProperties.Structural)
		}
		return out
	}
	var required []string
	if s.ValueValidation != nil {
		required = s.ValueValidation.Required
	}
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		below := s.Properties[name]
		required := required
		if name == "postgresql" { // a rule requires it, not the schema
			required = append(slices.Clone(required), name)
		}
		if slices.Contains(required, name) && c.often() || !slices.Contains(required, name) && c.next()%3 == 0 {
			out[name] = c.value(path+"."+name, &below)
		}
	}
	return out
}

func (c *chance) text(path string, s *structuralschema.Structural) any {
	if s.ValueValidation != nil && len(s.ValueValidation.Enum) > 0 && c.often() {
		return pick(c, s.ValueValidation.Enum).Object
	}
	last := path[strings.LastIndex(path, ".")+1:]
	switch {
	case strings.HasSuffix(last, "ame") && last != "commonName" && last != "username" && c.often():
		return pick(c, names)
	case durationFields[last] && c.often():
		return pick(c, durations)
	case usual[last] != "" && c.often():
		return usual[last]
	case !c.often():
		return string(c.raw(64))
	}
	return pick(c, words)
}

var durationFields = map[string]bool{"lifetime": true, "maxLifetime": true, "renewBefore": true, "interval": true, "maxAge": true, "minimum": true, "warnBefore": true, "alarmBefore": true}

// usual values let objects get far enough for something to go wrong.
var usual = map[string]string{"address": "db.data:5432", "database": "orders", "username": "orders_app", "owner": "orders_owner", "allowedUsernames[]": "*", "allowedOwners[]": "*",
	"commonName": "app", "commonNames[]": "*", "dnsNames[]": "a.example.internal", "key": "ca.crt"}

// manifest returns an object of a kind, as a user would send it.
func (c *chance) manifest(kind, namespace string, check checker, now time.Time) ([]byte, error) {
	spec := check.structural.Properties["spec"]
	metadata := map[string]any{"name": pick(c, names), "namespace": namespace, "uid": fmt.Sprintf("00000000-0000-4000-8000-%012d", c.next()), "creationTimestamp": now.Format(time.RFC3339)}
	if strings.HasPrefix(kind, "Cluster") {
		delete(metadata, "namespace")
	}
	if !c.often() {
		metadata["annotations"] = map[string]string{"rekey.dev/rotate": pick(c, words), "rekey.dev/retire-previous": pick(c, words)}
	}
	return json.Marshal(map[string]any{"apiVersion": "rekey.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": c.value("spec", &spec)})
}

// secretData returns what a user may have put into a Secret: valid values, another object's values, truncated values, noise.
func (c *chance) secretData(good map[string][][]byte) map[string][]byte {
	out := map[string][]byte{}
	all := slices.Sorted(maps.Keys(good))
	for range c.below(10) {
		key := pick(c, all)
		value := pick(c, good[key])
		switch c.next() % 8 {
		case 6:
			value = value[:len(value)/2]
		case 7:
			value = c.raw(128)
		case 5:
			value = pick(c, good[pick(c, all)])
		}
		out[key] = value
	}
	return out
}

// secretMetadata returns the labels and annotations of a Secret: whose it claims to be, and what it allows.
func (c *chance) secretMetadata() (labels, annotations map[string]string) {
	labels, annotations = map[string]string{"rekey.dev/allow": pick(c, []string{"true", "true", "false", ""})}, map[string]string{}
	if c.next()%2 == 1 {
		owner := pick(c, []string{"ClientIdentity", "ServerIdentity", "DatabaseCredential", "CertificateAuthority", "ClusterCertificateAuthority", "Nobody"}) + "/" + pick(c, names)
		labels["app.kubernetes.io/managed-by"] = "rekey"
		annotations["rekey.dev/owner"] = owner
		annotations["rekey.dev/revision"] = pick(c, []string{"1", "0", "-1", "9007199254740993", "99999999999999999999", "x", strconv.Itoa(c.next())})
		annotations["rekey.dev/managed-metadata"] = pick(c, []string{"", "{", `{"labels":["a"],"annotations":["rekey.dev/owner"]}`})
		annotations["rekey.dev/adopt"] = pick(c, []string{"", owner, "ClientIdentity/one"})
	}
	return labels, annotations
}
