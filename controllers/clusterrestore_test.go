// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/apiserver"
)

// restored prepares the object of a backup to be applied in another cluster.
func restored[T client.Object](object T) T {
	object.SetResourceVersion("")
	object.SetUID("")
	object.SetManagedFields(nil)
	object.SetFinalizers(nil)
	return object
}

// handOverCommands returns the commands in docs/runbooks/restore-from-backup.md.
func handOverCommands(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "docs", "runbooks", "restore-from-backup.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := regexp.MustCompile(`(?m)^kubectl annotate .*take-over-from=\$OLD_CLUSTER$`).FindAllString(string(page), -1)
	if len(out) == 0 {
		t.Fatal("the page has no command that hands a cluster over")
	}
	return out
}

// A whole cluster is restored elsewhere: another API server, another UID of kube-system, all objects and Secrets, and the
// same PostgreSQL. Nothing is created or changed before the documented commands are run; then everything continues,
// unchanged.
func TestAClusterRestoredElsewhereIsHandedOver(t *testing.T) {
	t.Parallel()
	w := newPGWorld(t, servers.Of(t, 15))
	authority, clientIdentity, serverIdentity := anAuthority(), aClientIdentity(), aServerIdentity()
	ready(w.world, authority, clientIdentity, serverIdentity, w.object, w.credential)

	environment := &envtest.Environment{}
	if err := apiserver.Start(environment); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = apiserver.Stop(environment) })
	other := newWorldOn(t, environment.Config, metav1.ObjectMeta{Name: w.namespace})
	other.engines, other.clock = w.engines, w.clock
	other.restart()
	if other.clusterUID() == w.clusterUID() {
		t.Fatal("both clusters have the same UID")
	}

	w.copySecrets(other, func(*corev1.Secret) bool { return true })
	record := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: secretstore.LedgerName(kindCertificateAuthority, authority.Name)}}
	bundle := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.namespace, Name: "orders-ca"}}
	w.get(record)
	w.get(bundle)
	other.create(restored(record), restored(bundle), restored(w.secret("orders-admin")), aPolicy())
	credential := restored(w.credential.DeepCopy())
	objects := []client.Object{restored(authority.DeepCopy()), restored(clientIdentity.DeepCopy()), restored(serverIdentity.DeepCopy()), credential}
	other.create(restored(w.object.DeepCopy()))
	other.create(objects...)
	before, logins := other.data(), w.marks()
	other.restart()
	for _, o := range objects {
		other.settle(o, 3)
		other.wantFenced(o, w.world, "Fenced", "SecretConflict")
	}
	if !cmp.Equal(before, other.data()) || !cmp.Equal(logins, w.marks()) {
		t.Error("something was created or changed before the handover")
	}

	user, err := environment.AddUser(envtest.User{Name: "admin", Groups: []string{"system:masters"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := user.KubeConfig()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, command := range handOverCommands(t) {
		words := strings.Fields(strings.ReplaceAll(command, "$OLD_CLUSTER", w.clusterUID()))
		run := exec.CommandContext(w.ctx, filepath.Join(os.Getenv("KUBEBUILDER_ASSETS"), words[0]), append(words[1:], "--kubeconfig="+file)...)
		if out, err := run.CombinedOutput(); err != nil && !strings.Contains(string(out), "no objects") && !strings.Contains(string(out), "resource(s) were provided, but no name") {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
	}
	other.step(2 * time.Minute)
	for _, o := range objects {
		other.settle(o, 5)
		want := "True/Published"
		if _, ok := o.(*v1alpha1.CertificateAuthority); ok {
			want = "True/Serving"
		}
		other.wantCondition(o, v1alpha1.ConditionReady, want)
		other.wantCondition(o, v1alpha1.ConditionStalled, "")
	}
	for name, data := range before {
		if name != "orders-db" && !strings.Contains(name, "-databasecredential-") && !cmp.Equal(data, other.data()[name]) {
			t.Errorf("the handover changed Secret %s", name)
		}
	}
	if string(before["orders-db"]["password"]) != string(other.secret("orders-db").Data["password"]) {
		t.Error("the handover changed the password")
	}
	for login, mark := range w.marks() {
		if !strings.HasPrefix(mark, "rekey "+other.clusterUID()+"/") {
			t.Errorf("the marker of %s is %q", login, mark)
		}
	}
	other.request(credential, v1alpha1.AnnotationRotate, "here")
	other.settle(credential, 5)
	if credential.Status.Revision != 2 || !w.accepted(other.secret("orders-db")) {
		t.Errorf("revision %d after a rotation in the new cluster:%s", credential.Status.Revision, describeConditions(credential))
	}
}

// marks returns the markers of the logins in this world.
func (w *pgWorld) marks() map[string]string {
	w.t.Helper()
	connection, err := w.server.Connect(w.ctx, "postgres")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = connection.Close(w.ctx) }()
	rows, err := connection.Query(w.ctx, "SELECT rolname, coalesce(shobj_description(oid, 'pg_authid'), '') FROM pg_roles WHERE rolname LIKE $1", w.base+"_app%")
	if err != nil {
		w.t.Fatal(err)
	}
	defer rows.Close()
	out := map[string]string{}
	for rows.Next() {
		var login, mark string
		if err := rows.Scan(&login, &mark); err != nil {
			w.t.Fatal(err)
		}
		out[login] = mark
	}
	return out
}
