// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"fmt"
	"reflect"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// indexed returns the value of an index for an object that is referred to by name; empty without a name.
func indexed(namespace, name string) string {
	if name == "" {
		return ""
	}
	return namespace + "/" + name
}

// Indexes finds objects by what they refer to. If one cache holds all namespaces, lookups return names and copy nothing: an
// authority may have tens of thousands of users, and copying them all at once would dominate the memory of the process. With
// --watch-namespaces each namespace has its own cache, which can only return lists.
type Indexes struct {
	reader   client.Reader
	kinds    Kinds
	indexers map[reflect.Type]toolscache.Indexer
}

// indexerProvider is an informer with an indexer.
type indexerProvider interface{ GetIndexer() toolscache.Indexer }

// NewIndexes adds the indexes of all references to the caches.
func NewIndexes(ctx context.Context, caches cache.Cache, kinds Kinds) (Indexes, error) {
	out := Indexes{reader: caches, kinds: kinds, indexers: map[reflect.Type]toolscache.Indexer{}}
	for _, kind := range kinds {
		if len(kind.References) == 0 {
			continue
		}
		if err := out.add(ctx, caches, kind); err != nil {
			return Indexes{}, fmt.Errorf("adding indexes of %s: %w", kind.Name, err)
		}
	}
	return out, nil
}

func (i Indexes) add(ctx context.Context, caches cache.Cache, kind Kind) error {
	for _, reference := range kind.References {
		if reference.NameIndex == "" {
			continue
		}
		if err := caches.IndexField(ctx, kind.New(), reference.NameIndex, asIndexValues(reference.Name)); err != nil {
			return err
		}
	}
	informer, err := caches.GetInformer(ctx, kind.New(), cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	values := i.valuesOf(kind)
	if provider, ok := informer.(indexerProvider); ok {
		i.indexers[reflect.TypeOf(kind.New())] = provider.GetIndexer()
		return informer.AddIndexers(indexersOf(values))
	}
	for name, value := range values {
		if err := caches.IndexField(ctx, kind.New(), name, asIndexValues(value)); err != nil {
			return err
		}
	}
	return nil
}

// valuesOf returns, by index, the functions that return what an object of the kind refers to.
func (i Indexes) valuesOf(kind Kind) map[string]func(client.Object) string {
	out := map[string]func(client.Object) string{}
	for _, reference := range kind.References {
		to, _ := i.kinds.Named(reference.To)
		out[reference.Index] = reference.value(to)
	}
	return out
}

// asIndexValues returns a function for an index, which expects a list: here, at most one value.
func asIndexValues(value func(client.Object) string) client.IndexerFunc {
	return func(o client.Object) []string {
		if v := value(o); v != "" {
			return []string{v}
		}
		return nil
	}
}

func indexersOf(values map[string]func(client.Object) string) toolscache.Indexers {
	out := toolscache.Indexers{}
	for name, value := range values {
		out[name] = func(object any) ([]string, error) {
			if o, ok := object.(client.Object); ok {
				return asIndexValues(value)(o), nil
			}
			return nil, nil
		}
	}
	return out
}

// Find returns the objects of a kind that have the value in the index.
func (i Indexes) Find(ctx context.Context, kind client.Object, index, value string) ([]types.NamespacedName, error) {
	indexer, ok := i.indexers[reflect.TypeOf(kind)]
	if !ok {
		return i.list(ctx, kind, index, value)
	}
	keys, err := indexer.IndexKeys(index, value)
	if err != nil {
		return nil, fmt.Errorf("looking up %s in %s of %T: %w", value, index, kind, err)
	}
	out := make([]types.NamespacedName, 0, len(keys))
	for _, key := range keys {
		namespace, name, err := toolscache.SplitMetaNamespaceKey(key)
		if err != nil {
			return nil, fmt.Errorf("reading a key of the cache: %w", err)
		}
		out = append(out, types.NamespacedName{Namespace: namespace, Name: name})
	}
	return out, nil
}

func (i Indexes) list(ctx context.Context, object client.Object, index, value string) ([]types.NamespacedName, error) {
	kind, ok := i.kinds.Of(object)
	if !ok {
		return nil, fmt.Errorf("finding the list of %T: it is not one of rekey's kinds", object)
	}
	list := kind.NewList()
	options := []client.ListOption{client.UnsafeDisableDeepCopy, client.MatchingFields{index: value}}
	if index == toolscache.NamespaceIndex {
		options[1] = client.InNamespace(value)
	}
	if err := i.reader.List(ctx, list, options...); err != nil {
		return nil, fmt.Errorf("listing %s: %w", kind.Name, err)
	}
	var out []types.NamespacedName
	err := meta.EachListItem(list, func(item runtime.Object) error {
		if o, ok := item.(client.Object); ok {
			out = append(out, client.ObjectKeyFromObject(o))
		}
		return nil
	})
	return out, err
}
