// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/kube"
)

// found starts a cache and returns what its indexes find, sorted, in the given namespaces.
func (w *world) found(namespaces []string) func(kind client.Object, index, value string) []string {
	w.t.Helper()
	options := CacheOptions(namespaces, w.namespace, nil)
	options.Scheme = testScheme(w.t)
	caches, err := cache.New(apiServer, options)
	if err != nil {
		w.t.Fatal(err)
	}
	by, err := kube.NewIndexes(w.ctx, caches, allKinds().kube())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, kind := range allKinds() {
		for _, reference := range kind.References {
			if kept := w.inMemory(caches, kind.New(), reference.Index); kept != (namespaces == nil) {
				w.t.Errorf("caches of the namespaces %q keep the index %s of %s: %t", namespaces, reference.Index, kind.Name, kept)
			}
		}
	}
	ctx, cancel := context.WithCancel(w.ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = caches.Start(ctx) }()
	w.t.Cleanup(func() { cancel(); <-ended })
	if !caches.WaitForCacheSync(ctx) {
		w.t.Fatal("the cache does not fill")
	}
	return func(kind client.Object, index, value string) []string {
		w.t.Helper()
		keys, err := by.Find(w.ctx, kind, index, value)
		if err != nil {
			w.t.Fatal(err)
		}
		out := []string{}
		for _, key := range keys {
			out = append(out, key.String())
		}
		slices.Sort(out)
		return out
	}
}

// inMemory reports whether the cache keeps the index itself, so that a query copies no objects.
func (w *world) inMemory(caches cache.Cache, kind client.Object, index string) bool {
	w.t.Helper()
	informer, err := caches.GetInformer(w.ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		w.t.Fatal(err)
	}
	indexed, ok := informer.(interface{ GetIndexer() toolscache.Indexer })
	return ok && indexed.GetIndexer().GetIndexers()[index] != nil
}

func TestReferrersAreFoundInEveryKindOfCache(t *testing.T) {
	first, second := newWorld(t), newWorld(t)
	for _, w := range []*world{first, second} {
		for _, name := range []string{"a", "b"} {
			identity := aClientIdentity()
			identity.Name, identity.Spec.SecretName = name, v1alpha1.ObjectName(name)
			identity.Spec.RotationPolicyRef = &v1alpha1.LocalReference{Name: "daily"}
			w.create(identity)
		}
		across := aClientIdentity()
		across.Name, across.Spec.SecretName = "across", "across"
		across.Spec.AuthorityRef = v1alpha1.AuthorityReference{Kind: v1alpha1.AuthorityKindCluster, Name: v1alpha1.ObjectName(first.namespace)}
		w.create(across, aServerIdentity(), aCredential())
	}
	key := func(w *world, name string) string {
		return types.NamespacedName{Namespace: w.namespace, Name: name}.String()
	}
	clients, servers, logins := &v1alpha1.ClientIdentity{}, &v1alpha1.ServerIdentity{}, &v1alpha1.DatabaseCredential{}
	both := []string{key(first, "across"), key(second, "across")}
	slices.Sort(both)
	server := string(aCredential().Spec.ServerRef.Name)
	for mode, find := range map[string]func(client.Object, string, string) []string{
		"one cache for all": first.found(nil), "one per namespace": first.found([]string{first.namespace, second.namespace}),
	} {
		for name, tc := range map[string]struct {
			kind         client.Object
			index, value string
			want         []string
		}{
			"an authority":                {clients, "rekey.authority", key(first, "internal"), []string{key(first, "a"), key(first, "b")}},
			"an authority, of servers":    {servers, "rekey.authority", key(second, "internal"), []string{key(second, "api")}},
			"an authority of the cluster": {clients, "rekey.clusterauthority", first.namespace, both},
			"one without users":           {servers, "rekey.clusterauthority", first.namespace, []string{}},
			"a policy":                    {clients, "rekey.policyof", key(second, "daily"), []string{key(second, "a"), key(second, "b")}},
			"another policy":              {clients, "rekey.policyof", key(second, "weekly"), []string{}},
			"a database server":           {logins, "rekey.server", key(first, server), []string{key(first, aCredential().Name)}},
			"a namespace":                 {clients, toolscache.NamespaceIndex, second.namespace, []string{key(second, "a"), key(second, "across"), key(second, "b")}},
		} {
			t.Run(mode+", "+name, func(t *testing.T) {
				if diff := cmp.Diff(tc.want, find(tc.kind, tc.index, tc.value)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		}
	}
}
