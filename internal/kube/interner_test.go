// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"bytes"
	"strings"
	"testing"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/internal/credential"
)

// cached returns what the cache would hold of a Secret with this authority and this label.
func cached(t *testing.T, c *transforms, authority []byte, label string) *corev1.Secret {
	t.Helper()
	out, err := c.secret(&corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: strings.Clone("shop"), Labels: map[string]string{"team": label}}, Type: corev1.SecretTypeTLS,
		Data: map[string][]byte{credential.KeyAuthority: bytes.Clone(authority)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return out.(*corev1.Secret)
}

func TestCachedObjectsShareWhatTheyHaveInCommonAndNothingLarge(t *testing.T) {
	c := newTransforms(someKinds)
	c.expected.note(named("shop", ""))
	small, large := []byte("an authority"), bytes.Repeat([]byte("x"), longestBytes+1)
	one, two := cached(t, c, small, "a"), cached(t, c, small, "a")
	if unsafe.StringData(one.Namespace) != unsafe.StringData(two.Namespace) || &one.Data[credential.KeyAuthority][0] != &two.Data[credential.KeyAuthority][0] {
		t.Error("two Secrets hold the same namespace and authority twice")
	}
	if string(two.Data[credential.KeyAuthority]) != string(small) || two.Labels["team"] != "a" {
		t.Errorf("something else is shared: %q, %v", two.Data[credential.KeyAuthority], two.Labels)
	}
	for i := range 3 * maxInterned {
		large[0] = byte(i)
		cached(t, c, append(large, byte(i), byte(i>>8)), strings.Repeat("l", longestLabels)+string(rune(i)))
		cached(t, c, []byte{byte(i), byte(i >> 8)}, string(rune(i)))
	}
	if len(c.interner.bytes.held) > maxInterned || len(c.interner.labels.held) > maxInterned || len(c.interner.texts.held) > maxInterned {
		t.Errorf("held are %d values, %d label maps and %d texts, want at most %d of each", len(c.interner.bytes.held), len(c.interner.labels.held), len(c.interner.texts.held), maxInterned)
	}
	for held := range c.interner.bytes.held {
		if len(held) > longestBytes {
			t.Errorf("a value of %d bytes is held", len(held))
		}
	}
}
