// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apiwatch "k8s.io/apimachinery/pkg/watch"

	"github.com/rekey/rekey/api/v1alpha1"
)

// witness has seen every Secret that ever existed.
type witness struct {
	mu sync.Mutex
	// plain are passwords and private keys; verifiers are keys of SCRAM verifiers, which reveal neither.
	plain, verifiers map[string][]byte
	known            map[[32]byte]bool
	done             chan struct{}
	stop             func()
}

// watch starts to watch all Secrets, before any exists.
func (c *cluster) watch() *witness {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	w := &witness{plain: map[string][]byte{}, verifiers: map[string][]byte{}, known: map[[32]byte]bool{}, done: make(chan struct{})}
	events, err := c.client.Watch(ctx, &corev1.SecretList{})
	if err != nil {
		c.t.Fatal(err)
	}
	go func() {
		defer close(w.done)
		for event := range events.ResultChan() {
			if secret, ok := event.Object.(*corev1.Secret); ok {
				w.see(secret)
			} else if event.Type == apiwatch.Error && ctx.Err() == nil {
				c.t.Errorf("watching Secrets: %v", event.Object)
				return
			}
		}
	}()
	w.stop = sync.OnceFunc(func() { cancel(); <-w.done })
	c.t.Cleanup(w.stop)
	return w
}

// public are keys of Secrets with values that are not secret, or that are made of others that are searched for.
var public = []string{"tls.crt", "tls.der", "ca.crt", "truststore.p12", "truststore.jks", "username", "host", "port", "database", "type", "provider", "sslmode", "certificates", "uri", "version", "state", "csr"}

func (w *witness) see(secret *corev1.Secret) {
	w.mu.Lock()
	defer w.mu.Unlock()
	where := secret.Namespace + "/" + secret.Name
	if secret.Type == v1alpha1.SecretTypeLedger {
		_, object, _ := strings.Cut(secret.Annotations[v1alpha1.AnnotationOwner], "/")
		for key, entry := range secret.Data {
			var record struct {
				Seq      int64             `json:"seq"`
				Material map[string][]byte `json:"material"`
			}
			if json.Unmarshal(entry, &record) == nil {
				w.values(fmt.Sprintf("%s %s of %s", where, key, object), object, record.Material)
			} else if !slices.Contains(public, key) {
				w.add(w.plain, where+" "+key, entry)
			}
		}
		return
	}
	w.values(where, "", secret.Data)
}

func (w *witness) values(where, object string, data map[string][]byte) {
	for _, key := range slices.Sorted(maps.Keys(data)) {
		value := data[key]
		switch {
		case slices.Contains(public, key):
		case key == "verifier":
			w.verifier(object, string(value))
		case key == "tls-combined.pem":
			if block, _ := pem.Decode(value); block != nil {
				w.add(w.plain, where+" "+key, pem.EncodeToMemory(block))
			}
		default:
			w.add(w.plain, where+" "+key, value)
		}
	}
}

// verifier has the form SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>.
func (w *witness) verifier(object, text string) {
	_, keys, _ := strings.Cut(strings.TrimPrefix(text, "SCRAM-SHA-256$"), "$")
	for key := range strings.SplitSeq(keys, ":") {
		if raw, err := base64.StdEncoding.DecodeString(key); err == nil && len(raw) == 32 {
			w.add(w.verifiers, object, raw)
		}
	}
}

func (w *witness) add(to map[string][]byte, what string, value []byte) {
	if len(value) == 0 || w.known[sha256.Sum256(value)] {
		return
	}
	w.known[sha256.Sum256(value)] = true
	to[fmt.Sprintf("%s #%d", what, len(to)+1)] = value
}

// secrets returns what was seen so far.
func (w *witness) secrets() (plain, verifiers map[string][]byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.plain), maps.Clone(w.verifiers)
}
