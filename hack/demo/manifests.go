// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
)

// Names in the shipped manifests.
const (
	operatorNamespace = "rekey-system"
	operatorName      = "rekey"
)

// fieldOwner is the demo's name in server-side apply.
const fieldOwner = client.FieldOwner("rekey-demo")

// objectKinds are the kinds that the demo reads and writes as Go values.
var objectKinds = scheme()

func scheme() *runtime.Scheme {
	s := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(s))
	utilruntime.Must(v1alpha1.AddToScheme(s))
	return s
}

// shipped returns the objects of dist/install.yaml, unchanged. make verify compares that file with config/default.
func shipped(source string) ([]*unstructured.Unstructured, error) {
	file, err := os.Open(filepath.Join(source, "dist", "install.yaml"))
	if err != nil {
		return nil, fmt.Errorf("opening the shipped manifests: %w", err)
	}
	defer func() { _ = file.Close() }()
	return decode(file)
}

// decode reads all documents of a YAML stream.
func decode(from io.Reader) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(from, 4096)
	for {
		object := &unstructured.Unstructured{}
		err := decoder.Decode(object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("reading a manifest: %w", err)
		}
		if len(object.Object) > 0 {
			objects = append(objects, object)
		}
	}
}

// before ranks the kinds that other kinds need.
func before(kind string) int {
	switch kind {
	case "Namespace":
		return 0
	case "CustomResourceDefinition":
		return 1
	}
	return 2
}

// apply creates or updates the objects, in the order of their dependencies, and waits until the API server serves our kinds.
func apply(ctx context.Context, kube client.Client, objects ...*unstructured.Unstructured) error {
	ordered := slices.Clone(objects)
	slices.SortStableFunc(ordered, func(a, b *unstructured.Unstructured) int { return before(a.GetKind()) - before(b.GetKind()) })
	for _, object := range ordered {
		err := poll(ctx, 200*time.Millisecond, 20*time.Second, func(ctx context.Context) error {
			err := kube.Apply(ctx, client.ApplyConfigurationFromUnstructured(object), fieldOwner, client.ForceOwnership)
			if apierrors.IsInvalid(err) || apierrors.IsForbidden(err) {
				return finalError{err}
			}
			return err // the kind may not be served yet, or the namespace not known yet
		})
		if err != nil {
			return fmt.Errorf("applying %s %s: %w", object.GetKind(), object.GetName(), err)
		}
	}
	return nil
}

// applyTyped is apply for a Go value.
func applyTyped(ctx context.Context, kube client.Client, object client.Object) error {
	raw, err := toUnstructured(object)
	if err != nil {
		return err
	}
	return apply(ctx, kube, raw)
}

func toUnstructured(object client.Object) (*unstructured.Unstructured, error) {
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("encoding %s: %w", object.GetName(), err)
	}
	delete(fields, "status")
	raw := &unstructured.Unstructured{Object: fields}
	kinds, _, err := objectKinds.ObjectKinds(object)
	if err != nil {
		return nil, fmt.Errorf("finding the kind of %s: %w", object.GetName(), err)
	}
	raw.SetGroupVersionKind(kinds[0])
	return raw, nil
}

// operatorDeployment finds the Deployment among the shipped objects.
func operatorDeployment(objects []*unstructured.Unstructured) (*appsv1.Deployment, int, error) {
	for i, object := range objects {
		if object.GetKind() != "Deployment" {
			continue
		}
		var deployment appsv1.Deployment
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, &deployment); err != nil {
			return nil, 0, fmt.Errorf("reading the operator's Deployment: %w", err)
		}
		return &deployment, i, nil
	}
	return nil, 0, errors.New("dist/install.yaml has no Deployment")
}

// withImage returns the shipped objects with the image that was built here, which is never pulled. Nothing else changes.
func withImage(objects []*unstructured.Unstructured, image string) ([]*unstructured.Unstructured, error) {
	deployment, at, err := operatorDeployment(objects)
	if err != nil {
		return nil, err
	}
	for i := range deployment.Spec.Template.Spec.Containers {
		deployment.Spec.Template.Spec.Containers[i].Image = image
		deployment.Spec.Template.Spec.Containers[i].ImagePullPolicy = corev1.PullNever
	}
	changed := slices.Clone(objects)
	changed[at], err = toUnstructured(deployment)
	return changed, err
}
