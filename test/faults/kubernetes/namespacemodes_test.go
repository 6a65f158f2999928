// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	yamlstream "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

const operatorNamespace = "rekey-system"

// startControllers runs the namespace controller and the garbage collector of Kubernetes.
func startControllers(t *testing.T) {
	t.Helper()
	api := world.APIServer()
	config := clientcmdapi.NewConfig()
	config.Clusters["api"] = &clientcmdapi.Cluster{Server: "https://" + strings.TrimPrefix(api.Host, "https://"), CertificateAuthorityData: api.CAData}
	config.AuthInfos["admin"] = &clientcmdapi.AuthInfo{Token: api.BearerToken}
	config.Contexts["it"] = &clientcmdapi.Context{Cluster: "api", AuthInfo: "admin"}
	config.CurrentContext = "it"
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), "kube-controller-manager")
	if _, err := os.Stat(program); err != nil {
		t.Fatalf("this test needs the controllers of Kubernetes, which `make assets` builds beside the API server: %v", err)
	}
	command := exec.Command(program, "--kubeconfig="+path, "--leader-elect=false", "--secure-port=0",
		"--controllers=namespace-controller,garbage-collector-controller", "--kube-api-qps=200", "--kube-api-burst=200")
	var said bytes.Buffer
	command.Stdout, command.Stderr = &said, &said
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = command.Process.Kill()
		_ = command.Wait()
		if t.Failed() {
			t.Logf("the controllers' last output: %s", said.Bytes()[max(0, said.Len()-2000):])
		}
	})
}

// shipped reads what the manifests under config grant, and applies it; namespaced objects are created in the namespace.
func shipped(t *testing.T, c client.Client, namespace string, files ...string) (applied []client.Object) {
	t.Helper()
	decoder := serializer.NewCodecFactory(c.Scheme()).UniversalDeserializer()
	for _, file := range files {
		stream, err := os.Open(filepath.Join(world.Root(), "config", file))
		if err != nil {
			t.Fatal(err)
		}
		reader := yamlstream.NewDocumentDecoder(stream)
		defer reader.Close()
		buffer := make([]byte, 1<<16)
		for {
			n, err := reader.Read(buffer)
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			decoded, _, err := decoder.Decode(buffer[:n], nil, nil)
			if runtime.IsMissingKind(err) {
				continue // comments
			}
			if err != nil {
				t.Fatal(err)
			}
			object, ok := decoded.(client.Object)
			if !ok {
				t.Fatalf("%s holds a %T", file, decoded)
			}
			switch object.(type) {
			case *rbacv1.Role, *rbacv1.RoleBinding:
				object.SetNamespace(namespace)
			}
			if err := c.Create(t.Context(), object); err != nil && !apierrors.IsAlreadyExists(err) {
				t.Fatal(err)
			}
			applied = append(applied, object)
		}
	}
	return applied
}

// T3: a namespace is deleted under the shipped rights of each mode, with the controllers of Kubernetes, at any stage of a life,
// whatever disappears first: it is gone soon, and rekey reports what remains at the database.
func TestANamespaceDeletionFinishesInBothModesInAnyOrder(t *testing.T) {
	random := size.Random(t, 0)
	startControllers(t)
	tried := map[string]int{}
	for _, mode := range []string{"default", "namespaced"} {
		for n := range size.Number(4, 20) {
			policy := []v1alpha1.DeletionPolicy{v1alpha1.DeletionRetain, v1alpha1.DeletionDelete}[random.IntN(2)]
			stage := stages[n%len(stages)]
			seed := random.Uint64()
			t.Run(fmt.Sprintf("%s, %s, %s, %d", mode, policy, stage, seed), func(t *testing.T) {
				endOfNamespace(t, mode, policy, stage, rand.New(rand.NewPCG(seed, 0)))
				tried[fmt.Sprintf("%s %s %s", mode, policy, stage)]++
			})
		}
	}
	t.Logf("deleted namespaces, by mode, policy and stage: %v", tried)
}

var stages = []string{"at the start", "published", "rotating", "overlapping"}

func endOfNamespace(t *testing.T, mode string, policy v1alpha1.DeletionPolicy, stage string, random *rand.Rand) {
	t.Helper()
	s := newScene(t)
	own := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: operatorNamespace}}
	if err := s.Client.Create(s.Ctx, own); err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	shipped(t, s.Client, "", "rbac/role.yaml", "rbac/role_binding.yaml")
	namespaces := []string{s.Namespace}
	var rights []client.Object
	everywhere := []string{"rbac/cluster/secrets_role.yaml", "rbac/cluster/secrets_role_binding.yaml"}
	if mode == "default" {
		namespaces = nil
		granted := shipped(t, s.Client, "", everywhere...)
		t.Cleanup(func() {
			for _, o := range granted {
				_ = s.Client.Delete(context.WithoutCancel(s.Ctx), o)
			}
		})
	} else {
		own := []string{"namespaced/secrets-role/role.yaml", "namespaced/secrets-role/role_binding.yaml"}
		shipped(t, s.Client, operatorNamespace, own...)
		rights = shipped(t, s.Client, s.Namespace, own...)
	}
	config := world.APIServer()
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:" + operatorNamespace + ":rekey",
		Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + operatorNamespace, "system:authenticated"}}
	operator := startOperatorIn(t, config, namespaces, operatorNamespace, s.Fake)

	identity, login, policyObject := fixture.ClientIdentity("app"), aCredential("orders"), aPolicy()
	identity.Spec.DeletionPolicy, login.Spec.DeletionPolicy = policy, policy
	authority, admin, server := anAuthority(), fixture.AdminSecret(), aServer()
	s.Create(policyObject, admin, authority, server, identity, login)
	if stage != "at the start" {
		untilHealthy(t, s.Client, authority, server, identity, login)
	}
	if stage == "rotating" || stage == "overlapping" {
		s.Edit(login, func() { metav1.SetMetaDataAnnotation(&login.ObjectMeta, v1alpha1.AnnotationRotate, "now") })
	}
	if stage == "overlapping" {
		until(t, func() bool { s.Get(login); return login.Status.Revision == 2 }, func() string { return "no rotation:" + describe(login) })
	}
	// These are the kinds that a user, or the namespace controller, can delete first.
	parts := append([]client.Object{admin, authority, server, identity, login, policyObject,
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: "orders-db"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: ledgerName(login)}}}, rights...)
	random.Shuffle(len(parts), func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
	first := parts[:random.IntN(len(parts)+1)]
	var order []string
	for _, o := range first {
		order = append(order, world.KindOf(o)+"/"+o.GetName())
		if err := s.Client.Delete(s.Ctx, o); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
		after(time.Duration(random.IntN(100)) * time.Millisecond)
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace}}
	started := time.Now()
	s.Delete(namespace)
	until(t, func() bool {
		return apierrors.IsNotFound(s.Client.Get(s.Ctx, client.ObjectKeyFromObject(namespace), namespace))
	}, func() string {
		_ = s.Client.Get(s.Ctx, client.ObjectKeyFromObject(login), login)
		return fmt.Sprintf("the namespace still exists after %v disappeared first: %v%s", order, namespace.Status.Conditions, describe(login))
	})
	t.Logf("gone after %s, when %v disappeared first", time.Since(started).Round(time.Second), order)
	open := s.open(login)
	if policy == v1alpha1.DeletionDelete && len(open) > 0 && !operator.leftReported(t) {
		t.Errorf("the logins %v remain, but neither log nor metric reports it, when %v disappeared first", open, order)
	}
}

// leftReported reports whether log and metric report that something was left behind.
func (o *operator) leftReported(t *testing.T) bool {
	t.Helper()
	families, err := o.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	counted := false
	for _, family := range families {
		if family.GetName() != "rekey_errors_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			for _, label := range metric.GetLabel() {
				counted = counted || label.GetName() == "of" && label.GetValue() == "withdraw"
			}
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return counted && with(o.left, "logins orders_a and orders_b")
}
