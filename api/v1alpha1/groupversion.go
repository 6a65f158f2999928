// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the API group and version of the kinds.
var GroupVersion = schema.GroupVersion{Group: "rekey.dev", Version: "v1alpha1"}

// registered holds an empty object and an empty list of each kind.
var registered []runtime.Object

// register adds a kind to those of AddToScheme. The file that declares a kind calls it, so a new kind needs no edit here.
func register(object, list runtime.Object) int { //nolint:unparam // a package variable needs a value to call it
	registered = append(registered, object, list)
	return len(registered)
}

// AddToScheme registers the kinds.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion, registered...)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
