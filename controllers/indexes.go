// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/rekey/rekey/api/v1alpha1"
)

// Indexes over the kinds that refer to others. Their values are what indexed gives, for what is in the namespace of the
// object, and the name alone for what belongs to the cluster.
const (
	indexAuthority        = "rekey.authority"
	indexClusterAuthority = "rekey.clusterauthority"
	indexPolicy           = "rekey.policyof"
	indexServer           = "rekey.server"
)

// indexPolicyName has the name of the policy alone.
const indexPolicyName = "rekey.policy"

// indexed is the value of an index for an object that is referred to by name; nothing where there is no name.
func indexed(namespace, name string) string {
	if name == "" {
		return ""
	}
	return namespace + "/" + name
}

// referrers are the kinds that refer to others.
func referrers() []client.Object {
	return []client.Object{&v1alpha1.ClientIdentity{}, &v1alpha1.ServerIdentity{}, &v1alpha1.DatabaseCredential{}}
}

// valuesOf gives, by index, what an object of the kind refers to.
func valuesOf(kind client.Object) map[string]func(client.Object) string {
	policy := func(o client.Object) string { return indexed(o.GetNamespace(), policyNamed(o)) }
	if _, login := kind.(*v1alpha1.DatabaseCredential); login {
		return map[string]func(client.Object) string{indexPolicy: policy, indexServer: func(o client.Object) string {
			return indexed(o.GetNamespace(), string(o.(*v1alpha1.DatabaseCredential).Spec.ServerRef.Name)) //nolint:forcetypeassert // indexed by type
		}}
	}
	return map[string]func(client.Object) string{
		indexAuthority: func(o client.Object) string {
			return indexed(o.GetNamespace(), authorityNamed(v1alpha1.AuthorityKindNamespaced)(o))
		},
		indexClusterAuthority: authorityNamed(v1alpha1.AuthorityKindCluster), indexPolicy: policy,
	}
}

// indexes find objects by what they refer to. Where one cache holds all namespaces they give names and copy nothing: an
// authority may have tens of thousands of users, and copies of all of them at once are what a process needs the most memory
// for. With --namespaces there is a cache for each, which gives lists only.
type indexes struct {
	reader  client.Reader
	scheme  *runtime.Scheme
	keepers map[string]toolscache.Indexer
}

// keeper is an informer that can be asked by index.
type keeper interface{ GetIndexer() toolscache.Indexer }

// newIndexes has the caches keep them.
func newIndexes(ctx context.Context, caches cache.Cache, scheme *runtime.Scheme) (indexes, error) {
	out := indexes{reader: caches, scheme: scheme, keepers: map[string]toolscache.Indexer{}}
	for _, kind := range referrers() {
		if err := out.add(ctx, caches, kind); err != nil {
			return indexes{}, fmt.Errorf("adding indexes of %T: %w", kind, err)
		}
	}
	return out, nil
}

func (i indexes) add(ctx context.Context, caches cache.Cache, kind client.Object) error {
	// The count of a policy's users goes through the client.
	if err := caches.IndexField(ctx, kind, indexPolicyName, one(policyNamed)); err != nil {
		return err
	}
	informer, err := caches.GetInformer(ctx, kind, cache.BlockUntilSynced(false))
	if err != nil {
		return err
	}
	if k, ok := informer.(keeper); ok {
		i.keepers[keptAs(kind)] = k.GetIndexer()
		return informer.AddIndexers(indexersOf(kind))
	}
	for name, value := range valuesOf(kind) {
		if err := caches.IndexField(ctx, kind, name, one(value)); err != nil {
			return err
		}
	}
	return nil
}

func keptAs(kind client.Object) string { return fmt.Sprintf("%T", kind) }

// one is what indexes take: a list of values, of which there is one at most.
func one(value func(client.Object) string) client.IndexerFunc {
	return func(o client.Object) []string {
		if v := value(o); v != "" {
			return []string{v}
		}
		return nil
	}
}

func indexersOf(kind client.Object) toolscache.Indexers {
	out := toolscache.Indexers{}
	for name, value := range valuesOf(kind) {
		out[name] = func(object any) ([]string, error) {
			if o, ok := object.(client.Object); ok {
				return one(value)(o), nil
			}
			return nil, nil
		}
	}
	return out
}

// find gives the objects of a kind that have the value in the index.
func (i indexes) find(ctx context.Context, kind client.Object, index, value string) ([]types.NamespacedName, error) {
	kept, ok := i.keepers[keptAs(kind)]
	if !ok {
		return i.list(ctx, kind, index, value)
	}
	keys, err := kept.IndexKeys(index, value)
	if err != nil {
		return nil, fmt.Errorf("looking %s up in %s of %T: %w", value, index, kind, err)
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

func (i indexes) list(ctx context.Context, kind client.Object, index, value string) ([]types.NamespacedName, error) {
	gvk, err := apiutil.GVKForObject(kind, i.scheme)
	if err != nil {
		return nil, fmt.Errorf("finding the list of %T: %w", kind, err)
	}
	made, err := i.scheme.New(gvk.GroupVersion().WithKind(gvk.Kind + "List"))
	if err != nil {
		return nil, fmt.Errorf("making the list of %T: %w", kind, err)
	}
	list, ok := made.(client.ObjectList)
	if !ok {
		return nil, fmt.Errorf("%T is no list", made)
	}
	options := []client.ListOption{client.UnsafeDisableDeepCopy, client.MatchingFields{index: value}}
	if index == toolscache.NamespaceIndex {
		options[1] = client.InNamespace(value)
	}
	if err := i.reader.List(ctx, list, options...); err != nil {
		return nil, fmt.Errorf("listing %T: %w", kind, err)
	}
	var out []types.NamespacedName
	err = meta.EachListItem(list, func(item runtime.Object) error {
		if o, ok := item.(client.Object); ok {
			out = append(out, client.ObjectKeyFromObject(o))
		}
		return nil
	})
	return out, err
}
