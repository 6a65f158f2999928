// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package upgrade

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/util/retry"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/yaml"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database/postgres"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/test/world"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m)) }

// scene is a namespace with the logins that the earlier version left in PostgreSQL.
type scene struct {
	*world.World
	server  *pgtest.Server
	process *world.Process
	cluster string
	uids    map[string]string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{World: world.New(t, postgres.New(postgres.Options{})), server: pgtest.StartFor(t, pgtest.Options{Version: 15}), uids: map[string]string{}}
	t.Cleanup(s.server.Stop)
	var system corev1.Namespace
	if err := s.Client.Get(t.Context(), client.ObjectKey{Name: metav1.NamespaceSystem}, &system); err != nil {
		t.Fatal(err)
	}
	s.cluster = string(system.UID)
	var statements []string
	for line := range strings.Lines(s.read("roles.sql")) {
		if !strings.HasPrefix(line, "--") {
			statements = append(statements, line)
		}
	}
	if err := s.server.Exec(t.Context(), "postgres", statements...); err != nil {
		t.Fatal(err)
	}
	s.process = s.Start("new", world.Options{})
	return s
}

var uidPlaceholder = regexp.MustCompile(`\$\{UID ([^}]+)\}`)

// read returns a file of testdata, adapted to this cluster. An object that does not exist gets a new UID.
func (s *scene) read(file string) string {
	s.T.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		s.T.Fatal(err)
	}
	out := strings.NewReplacer("${CLUSTER}", s.cluster, "${NAMESPACE}", s.Namespace, "${ADDRESS}", s.server.Address(), "${PORT}", fmt.Sprint(s.server.Port)).
		Replace(string(text))
	return uidPlaceholder.ReplaceAllStringFunc(out, func(found string) string {
		name := uidPlaceholder.FindStringSubmatch(found)[1]
		if s.uids[name] == "" {
			s.uids[name] = string(uuid.NewUUID())
		}
		return s.uids[name]
	})
}

// stored is a Secret or a ConfigMap of testdata, with its data as plain text.
type stored struct {
	metav1.TypeMeta `json:",inline"`

	Metadata  metav1.ObjectMeta `json:"metadata"`
	Type      corev1.SecretType `json:"type"`
	Immutable *bool             `json:"immutable"`
	Data      map[string]string `json:"data"`
}

// restore creates the Secrets and ConfigMaps of a file.
func (s *scene) restore(file string) {
	s.T.Helper()
	for text := range strings.SplitSeq(s.read(file), "\n---\n") {
		var one stored
		if err := yaml.UnmarshalStrict([]byte(text), &one); err != nil {
			s.T.Fatal(err)
		}
		for key, value := range one.Data {
			one.Data[key] = strings.ReplaceAll(value, "${CA}", string(s.server.Authority.PEM))
		}
		if one.Kind == "ConfigMap" {
			s.Create(&corev1.ConfigMap{ObjectMeta: one.Metadata, Immutable: one.Immutable, Data: one.Data})
			continue
		}
		s.Create(&corev1.Secret{ObjectMeta: one.Metadata, Immutable: one.Immutable, Type: one.Type, StringData: one.Data})
	}
}

// objects returns the objects of a file.
func (s *scene) objects(file string) (out []*unstructured.Unstructured) {
	s.T.Helper()
	for text := range strings.SplitSeq(s.read(file), "\n---\n") {
		var one unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(text), &one.Object); err != nil {
			s.T.Fatal(err)
		}
		if one.GetKind() != "ClusterCertificateAuthority" {
			one.SetNamespace(s.Namespace)
		}
		out = append(out, &one)
	}
	return out
}

// create creates an object as kubectl does, in any form.
func (s *scene) create(o *unstructured.Unstructured) {
	s.T.Helper()
	if err := s.Client.Create(s.Ctx, o); err != nil {
		s.T.Fatalf("creating %s %s: %v", o.GetKind(), o.GetName(), err)
	}
	s.uids[o.GetKind()+"/"+o.GetName()] = string(o.GetUID())
	s.T.Cleanup(func() { _ = s.Client.Delete(context.WithoutCancel(s.Ctx), o) })
}

// reconcile reconciles each object until nothing changes, twice, and returns them as they are then.
func (s *scene) reconcile(objects []*unstructured.Unstructured) (out []v1alpha1.Object) {
	s.T.Helper()
	for _, o := range objects {
		empty, err := s.Client.Scheme().New(o.GroupVersionKind())
		if err != nil {
			s.T.Fatal(err)
		}
		typed, ok := empty.(v1alpha1.Object)
		if !ok {
			s.T.Fatalf("%T has no conditions", empty)
		}
		typed.SetNamespace(o.GetNamespace())
		typed.SetName(o.GetName())
		out = append(out, typed)
	}
	for range 2 {
		for _, o := range out {
			s.Get(o)
			if _, err := s.process.Settle(o, 40); err != nil {
				s.T.Logf("%T %s: %v", o, o.GetName(), err)
			}
			s.Get(o)
		}
	}
	return out
}

// state is what must not change: the data of every Secret, and every login with its verifier and marker.
func (s *scene) state() map[string]string {
	s.T.Helper()
	out := map[string]string{}
	var secrets corev1.SecretList
	if err := s.Client.List(s.Ctx, &secrets, client.InNamespace(s.Namespace)); err != nil {
		s.T.Fatal(err)
	}
	for _, secret := range secrets.Items {
		if secret.Type == v1alpha1.SecretTypeLedger {
			continue // it records that it was proven again
		}
		for key, value := range secret.Data {
			out["Secret "+secret.Name+" "+key] = string(value)
		}
	}
	connection, err := s.server.Connect(s.Ctx, "postgres")
	if err != nil {
		s.T.Fatal(err)
	}
	defer func() { _ = connection.Close(s.Ctx) }()
	rows, err := connection.Query(s.Ctx, `SELECT rolname, concat_ws(' ', rolcanlogin, rolpassword, shobj_description(oid, 'pg_authid')) FROM pg_authid WHERE rolname LIKE 'orders%'`)
	if err != nil {
		s.T.Fatal(err)
	}
	for rows.Next() {
		var name, login string
		if err := rows.Scan(&name, &login); err != nil {
			s.T.Fatal(err)
		}
		out["login "+name] = login
	}
	if err := rows.Err(); err != nil {
		s.T.Fatal(err)
	}
	return out
}

// mustBeReady fails unless every object is Ready.
func mustBeReady(t *testing.T, objects []v1alpha1.Object) {
	t.Helper()
	for _, o := range objects {
		if ready := meta.FindStatusCondition(o.GetConditions(), v1alpha1.ConditionReady); ready == nil || ready.Status != metav1.ConditionTrue {
			t.Errorf("%s %s is not Ready: %+v", world.KindOf(o), o.GetName(), ready)
		}
	}
}

// crds replaces the CRDs of the cluster with those in a folder, and waits until they are in force. form, an object that only one of
// the two versions accepts, shows that.
func (s *scene) crds(folder string, form *unstructured.Unstructured) {
	s.T.Helper()
	ctx := context.WithoutCancel(s.Ctx) // it is also called while the test is cleaned up
	scheme := runtime.NewScheme()
	if err := apiextensionsv1.AddToScheme(scheme); err != nil {
		s.T.Fatal(err)
	}
	kube, err := client.New(world.APIServer(), client.Options{Scheme: scheme})
	if err != nil {
		s.T.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil || len(files) != 7 {
		s.T.Fatalf("%d CRDs in %s: %v", len(files), folder, err)
	}
	for _, file := range files {
		var want, have apiextensionsv1.CustomResourceDefinition
		text, err := os.ReadFile(file)
		if err == nil {
			err = yaml.Unmarshal(text, &want)
		}
		if err == nil {
			err = retry.RetryOnConflict(retry.DefaultBackoff, func() error {
				if err := kube.Get(ctx, client.ObjectKeyFromObject(&want), &have); err != nil {
					return err
				}
				have.Spec = want.Spec
				return kube.Update(ctx, &have)
			})
		}
		if err != nil {
			s.T.Fatal(err)
		}
	}
	deadline := time.Now().Add(time.Minute)
	for {
		probe := form.DeepCopy()
		probe.SetName("probe")
		err := s.Client.Create(ctx, probe, client.DryRunAll)
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			s.T.Fatalf("the CRDs of %s are not in force: %v", folder, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func today() string { return filepath.Join(world.Root(), "config", "crd", "bases") }

// of returns the object of a kind.
func of(objects []*unstructured.Unstructured, kind string) *unstructured.Unstructured {
	for _, o := range objects {
		if o.GetKind() == kind {
			return o
		}
	}
	panic("no " + kind)
}

// With Retain, deleted objects leave their Secrets, ledgers, records and logins, and objects in the new form adopt all of them.
func TestObjectsInTheNewFormAdoptWhatAnEarlierVersionLeft(t *testing.T) {
	s := newScene(t)
	s.restore("retained.yaml")
	before := s.state()
	objects := s.objects("new.yaml")
	for _, o := range objects {
		s.create(o)
	}
	mustBeReady(t, s.reconcile(objects))
	if diff := cmp.Diff(before, s.state()); diff != "" {
		t.Errorf("Secrets or logins changed (-before +after):\n%s", diff)
	}
}

// With the new CRDs, an object that is stored in the old form loses the old fields. rekey then changes nothing, and reports what is
// missing. The object can be deleted, and its manifest in the new form can be applied.
func TestObjectsInTheOldFormChangeNothingUnderTheNewCRDs(t *testing.T) {
	s := newScene(t)
	old, form := s.objects("old.yaml"), s.objects("new.yaml")
	t.Cleanup(func() { s.crds(today(), of(form, "DatabaseCredential")) })
	s.crds(filepath.Join("testdata", "crds"), of(old, "DatabaseCredential"))
	for _, o := range old {
		if o.GetKind() == "DatabaseCredential" {
			controllerutil.AddFinalizer(o, v1alpha1.Finalizer)
		}
		s.create(o)
	}
	s.restore("before.yaml")
	before := s.state()
	s.crds(today(), of(form, "DatabaseCredential"))
	for _, o := range s.reconcile(old) {
		ready := meta.FindStatusCondition(o.GetConditions(), v1alpha1.ConditionReady)
		want, words := map[string]string{"DatabaseServer": "EngineMismatch", "CertificateAuthority": "AuthorityInvalid", "ClusterCertificateAuthority": "AuthorityInvalid"}[world.KindOf(o)], "add spec.postgresql"
		if want == "AuthorityInvalid" {
			words = "has no secretName"
		}
		if want != "" && (ready == nil || ready.Status != metav1.ConditionFalse || ready.Reason != want || !strings.Contains(ready.Message, words)) {
			t.Errorf("%s %s: Ready is %+v, want False with reason %s and %q", world.KindOf(o), o.GetName(), ready, want, words)
		}
		if stalled := meta.FindStatusCondition(o.GetConditions(), v1alpha1.ConditionStalled); world.KindOf(o) == "DatabaseCredential" && (stalled == nil || stalled.Reason != "EngineMismatch") {
			t.Errorf("DatabaseCredential %s is not Stalled with EngineMismatch: %+v", o.GetName(), o.GetConditions())
		}
	}
	if diff := cmp.Diff(before, s.state()); diff != "" {
		t.Errorf("Secrets or logins changed before the new form was applied (-before +after):\n%s", diff)
	}
	for _, o := range form {
		patch := o.DeepCopy()
		if err := s.Client.Patch(s.Ctx, patch, client.Merge); err != nil {
			t.Fatalf("applying %s %s in the new form: %v", o.GetKind(), o.GetName(), err)
		}
	}
	mustBeReady(t, s.reconcile(form))
	if diff := cmp.Diff(before, s.state()); diff != "" {
		t.Errorf("Secrets or logins changed (-before +after):\n%s", diff)
	}
}

// An object that is stored in the old form can still be deleted under the new CRDs: its finalizer can be removed, and with Retain
// what belongs to it stays. With Delete, its logins stay and are reported.
func TestAnObjectInTheOldFormCanBeDeletedUnderTheNewCRDs(t *testing.T) {
	for _, policy := range []v1alpha1.DeletionPolicy{v1alpha1.DeletionRetain, v1alpha1.DeletionDelete} {
		t.Run(string(policy), func(t *testing.T) { deleteOldForm(t, policy) })
	}
}

func deleteOldForm(t *testing.T, policy v1alpha1.DeletionPolicy) {
	t.Helper()
	s := newScene(t)
	old, form := s.objects("old.yaml"), s.objects("new.yaml")
	t.Cleanup(func() { s.crds(today(), of(form, "DatabaseCredential")) })
	s.crds(filepath.Join("testdata", "crds"), of(old, "DatabaseCredential"))
	for _, o := range old {
		if o.GetKind() == "DatabaseCredential" {
			controllerutil.AddFinalizer(o, v1alpha1.Finalizer)
			if err := unstructured.SetNestedField(o.Object, string(policy), "spec", "deletionPolicy"); err != nil {
				t.Fatal(err)
			}
		}
		s.create(o)
	}
	s.restore("before.yaml")
	before := s.state()
	s.crds(today(), of(form, "DatabaseCredential"))
	for _, o := range old {
		if o.GetKind() != "DatabaseServer" { // it is there, and does not help
			s.Delete(o)
		}
	}
	login := &v1alpha1.DatabaseCredential{}
	key := client.ObjectKeyFromObject(of(old, "DatabaseCredential"))
	for range 20 {
		if s.Client.Get(s.Ctx, key, login) != nil {
			break
		}
		if _, err := s.process.Reconcile(login); err != nil {
			t.Log(err)
		}
		s.Step(time.Minute)
	}
	if err := s.Client.Get(s.Ctx, key, login); client.IgnoreNotFound(err) != nil || err == nil {
		t.Errorf("the credential was not released: %v, finalizers %q, %+v", err, login.Finalizers, login.Status.Conditions)
	}
	after := s.state()
	if policy == v1alpha1.DeletionDelete {
		// The Secret goes, and the logins stay as they were.
		for key := range before {
			if strings.HasPrefix(key, "Secret orders-db ") {
				delete(before, key)
				delete(after, key)
			}
		}
		if reported := strings.Join(s.Events(), "\n"); !strings.Contains(reported, v1alpha1.ReasonCleanupIncomplete) || !strings.Contains(reported, "leaves behind logins orders_app_a and orders_app_b") {
			t.Errorf("the logins that stay are not reported:\n%s", reported)
		}
	}
	if diff := cmp.Diff(before, after); diff != "" {
		t.Errorf("Secrets or logins changed (-before +after):\n%s", diff)
	}
}
