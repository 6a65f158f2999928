// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"reflect"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// Kind is what this package needs to know about a kind.
type Kind struct {
	Name string
	// New returns an empty object, NewList an empty list.
	New     func() v1alpha1.Object
	NewList func() client.ObjectList
	// ClusterScoped kinds have no namespace.
	ClusterScoped bool
	// References to objects of other kinds: each is indexed, and a change of the other object reconciles this one.
	References []Reference
	// CountsUsers is true if an object that starts or stops referring to one of this kind reconciles the latter.
	CountsUsers bool
	// FollowsNamespace is true if a change of its namespace's labels reconciles an object.
	FollowsNamespace bool
	// OwnsSecrets is true if a change of a Secret reconciles the object that owns it.
	OwnsSecrets bool
	// CachedSecret returns the name of the Secret that the cache keeps for an object. rekey's own writes of it reconcile nothing.
	// Nil for kinds that read their Secrets live.
	CachedSecret func(v1alpha1.Object) string
	// StatusOnly is true if rekey writes only the status of objects: then the cache drops metadata that nothing reads.
	StatusOnly bool
	// Intern shares the texts that many objects of the kind have in common, besides metadata and conditions. Nil for none.
	Intern func(*Interner, v1alpha1.Object)
}

// Reference is a field of a kind that names an object of another kind.
type Reference struct {
	// To is the name of the other kind.
	To string
	// Index is the name of the index. Its values are those of indexed for namespaced objects, and the name alone for
	// cluster-scoped ones.
	Index string
	// NameIndex is an index by which the client can list, with the name alone as its value; empty for none.
	NameIndex string
	// Name returns the name that an object refers to; empty for none.
	Name func(client.Object) string
	// SpecOnly is true if only the spec of the other object matters, not its status.
	SpecOnly bool
}

// value returns the function that returns the index value of a referring object.
func (r Reference) value(to Kind) func(client.Object) string {
	if to.ClusterScoped {
		return r.Name
	}
	return func(o client.Object) string { return indexed(o.GetNamespace(), r.Name(o)) }
}

// Kinds is a table of kinds.
type Kinds []Kind

// Named returns the kind with that name.
func (k Kinds) Named(name string) (Kind, bool) {
	for _, kind := range k {
		if kind.Name == name {
			return kind, true
		}
	}
	return Kind{}, false
}

// Of returns the kind of an object.
func (k Kinds) Of(object runtime.Object) (Kind, bool) {
	for _, kind := range k {
		if reflect.TypeOf(kind.New()) == reflect.TypeOf(object) {
			return kind, true
		}
	}
	return Kind{}, false
}

// ofList returns the kind of a list's items.
func (k Kinds) ofList(list client.ObjectList) (Kind, bool) {
	for _, kind := range k {
		if reflect.TypeOf(kind.NewList()) == reflect.TypeOf(list) {
			return kind, true
		}
	}
	return Kind{}, false
}

// UsersOf returns the kinds that refer to the kind with that name, each with only its references to that kind.
func (k Kinds) UsersOf(name string) Kinds {
	var out Kinds
	for _, kind := range k {
		var to []Reference
		for _, reference := range kind.References {
			if reference.To == name {
				to = append(to, reference)
			}
		}
		if kind.References = to; len(to) > 0 {
			out = append(out, kind)
		}
	}
	return out
}

// Watched returns an object of each kind whose changes reconcile the object, itself first.
func (k Kinds) Watched(object client.Object) []runtime.Object {
	out := []runtime.Object{object}
	kind, ok := k.Of(object)
	if !ok {
		return out
	}
	if kind.OwnsSecrets {
		out = append(out, &corev1.Secret{})
	}
	for _, reference := range kind.References {
		if to, ok := k.Named(reference.To); ok {
			out = append(out, to.New())
		}
	}
	if kind.FollowsNamespace {
		out = append(out, &corev1.Namespace{})
	}
	if kind.CountsUsers {
		for _, user := range k.UsersOf(kind.Name) {
			out = append(out, user.New())
		}
	}
	return out
}

// byType holds kinds by the type of their objects, for the lookup at every event.
type byType map[reflect.Type]Kind

func (k Kinds) byType() byType {
	out := byType{}
	for _, kind := range k {
		out[reflect.TypeOf(kind.New())] = kind
	}
	return out
}
