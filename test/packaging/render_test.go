// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package packaging

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/golden"
)

const root = "../.."

// strict decodes our kinds and those of Kubernetes, and refuses unknown fields.
var strict = func() runtime.Decoder {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{clientgoscheme.AddToScheme, v1alpha1.AddToScheme} {
		if err := add(scheme); err != nil {
			panic(err)
		}
	}
	return serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
}()

var rendered sync.Map

// render builds a folder under config with the pinned kustomize.
func render(t *testing.T, folder string) []byte {
	t.Helper()
	once, _ := rendered.LoadOrStore(folder, sync.OnceValues(func() ([]byte, error) {
		if err := trackFiles(filepath.Join(root, "config")); err != nil {
			return nil, err
		}
		path, err := filepath.Abs(filepath.Join(root, "config", folder))
		if err != nil {
			return nil, err
		}
		var stderr bytes.Buffer
		command := exec.Command("go", "-C", filepath.Join(root, "hack/tools"), "tool", "kustomize", "build", path)
		command.Stderr = &stderr
		out, err := command.Output()
		if err != nil {
			return nil, &renderError{err: err, stderr: stderr.String()}
		}
		return out, nil
	}))
	out, err := once.(func() ([]byte, error))()
	if err != nil {
		t.Fatalf("building config/%s: %v", folder, err)
	}
	return out
}

// trackFiles reads every file of a folder: go test only tracks files that the test itself reads, and would otherwise reuse a
// cached result although a file that kustomize reads has changed.
func trackFiles(folder string) error {
	return filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		_, err = os.ReadFile(path)
		return err
	})
}

type renderError struct {
	err    error
	stderr string
}

func (e *renderError) Error() string { return e.err.Error() + ": " + e.stderr }

// documents splits a YAML stream.
func documents(t *testing.T, stream []byte) [][]byte {
	t.Helper()
	var out [][]byte
	reader := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(stream)))
	for {
		document, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatalf("splitting YAML: %v", err)
		}
		if len(bytes.TrimSpace(document)) > 0 {
			out = append(out, document)
		}
	}
}

// objects decodes the manifests of a folder, except CRDs, which no scheme here knows.
func objects(t *testing.T, folder string) []client.Object {
	t.Helper()
	var out []client.Object
	for _, document := range documents(t, render(t, folder)) {
		if bytes.Contains(document, []byte("kind: CustomResourceDefinition\n")) {
			continue
		}
		out = append(out, decode(t, "config/"+folder, document))
	}
	return out
}

func decode(t *testing.T, where string, document []byte) client.Object {
	t.Helper()
	object, _, err := strict.Decode(document, nil, nil)
	if err != nil {
		t.Fatalf("decoding %s: %v\n%s", where, err, document)
	}
	return object.(client.Object)
}

// only returns the objects of one type.
func only[T client.Object](all []client.Object) []T {
	var out []T
	for _, object := range all {
		if o, ok := object.(T); ok {
			out = append(out, o)
		}
	}
	return out
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func deployment(t *testing.T, folder string) *appsv1.Deployment {
	t.Helper()
	found := only[*appsv1.Deployment](objects(t, folder))
	if len(found) != 1 {
		t.Fatalf("config/%s has %d Deployments, want 1", folder, len(found))
	}
	return found[0]
}

func clusterRoles(t *testing.T, folder string) map[string]*rbacv1.ClusterRole {
	t.Helper()
	out := map[string]*rbacv1.ClusterRole{}
	for _, role := range only[*rbacv1.ClusterRole](objects(t, folder)) {
		out[role.Name] = role
	}
	return out
}

func TestInstallYAMLMatchesTheDefaultInstallation(t *testing.T) {
	golden.Check(t, filepath.Join(root, "dist/install.yaml"), string(render(t, "default")))
}
