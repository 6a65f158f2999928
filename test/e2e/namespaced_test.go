// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
)

// TestForAListOfNamespaces runs the operator from config/namespaced, on the cluster that the other test has left clean.
func TestForAListOfNamespaces(t *testing.T) {
	explainFailure(t)
	for _, kind := range []string{"clusterroles", "clusterrolebindings"} {
		if out := kubectl(t, "get", kind, "-o", "name"); strings.Contains(out, "/rekey-secrets") {
			t.Fatal("the roles of config/default still exist: the test would prove nothing")
		}
	}
	kubectl(t, "create", "namespace", "web")
	kubectl(t, "label", "namespace", "web", "internal-mtls=true")
	// As the file itself says.
	kubectl(t, "apply", "--server-side", "-k", filepath.Join(env.root, "config", "namespaced"))
	awaitOperator(t)

	play(t, "", []story{
		{"Secrets of other namespaces are out of reach", outOfReach},
		{"it issues in its namespaces, and nowhere else", issuesInItsNamespaces},
		{"the operator was refused nothing", nothingForbidden},
		{"no secret appears in logs, Events or statuses", nothingLeaked},
	})
}

// outOfReach asks the API server for the rights of the operator's service account.
func outOfReach(s scene) {
	t := s.T
	for _, verb := range []string{"get", "list", "watch", "create", "update", "patch", "delete"} {
		for _, resource := range []string{"secrets", "configmaps"} {
			for _, where := range []string{"--namespace=default", "--namespace=kube-system", "--all-namespaces"} {
				// It exits with 1 if the answer is no.
				out, err := env.run(t.Context(), env.kubectl, "auth", "can-i", verb, resource, where, "--as="+operatorAccount)
				if strings.TrimSpace(out) != "no" || err == nil {
					t.Errorf("may the operator %s %s in %s? %s%v", verb, resource, where, out, err)
				}
			}
		}
	}
	for _, namespace := range []string{"web", operatorNamespace} {
		for _, verb := range []string{"get", "list", "watch", "create", "update", "delete"} {
			if out := kubectl(t, "auth", "can-i", verb, "secrets", "--namespace="+namespace, "--as="+operatorAccount); strings.TrimSpace(out) != "yes" {
				t.Errorf("may the operator %s secrets in %s? %s", verb, namespace, out)
			}
		}
	}
}

func issuesInItsNamespaces(s scene) {
	t := s.T
	kubectl(t, "apply", "-f", "config/samples/10-clustercertificateauthority.yaml")
	web, elsewhere := newPlace(t, "web"), place{t: t, name: "e2e-elsewhere"}
	elsewhere.create(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: elsewhere.name, Labels: map[string]string{"internal-mtls": "true"}}})
	outsider := elsewhere.identity("outsider", internal, v1alpha1.DeletionRetain)

	authority := fixture.Authority(func(a *v1alpha1.CertificateAuthority) {
		a.ObjectMeta, a.Spec = web.meta("own"), fixture.AuthoritySpec("own-ca")
		a.Spec.Managed.CommonName, a.Spec.Managed.Lifetime = "web", fixture.Duration(240*time.Hour)
	})
	web.create(authority)
	of := v1alpha1.AuthorityReference{Kind: v1alpha1.AuthorityKindNamespaced, Name: "own"}
	for _, object := range []client.Object{
		authority, web.identity("mine", of, v1alpha1.DeletionRetain), web.identity("theirs", internal, v1alpha1.DeletionRetain),
	} {
		ready(t, object)
	}
	credential := web.credential("web", v1alpha1.DeletionRetain)
	ready(t, credential)
	if _, err := env.database.logIn(t.Context(), web.secret("web-login").Data); err != nil {
		t.Error(err)
	}

	// It was created before those that are ready now.
	if err := env.kube.Get(t.Context(), client.ObjectKeyFromObject(outsider), outsider); err != nil {
		t.Fatal(err)
	}
	if len(outsider.Status.Conditions) > 0 {
		t.Errorf("the operator processed an identity of another namespace: %+v", outsider.Status.Conditions)
	}
	if err := env.kube.Get(t.Context(), elsewhere.key("outsider-mtls"), &corev1.Secret{}); !apierrors.IsNotFound(err) {
		t.Errorf("the Secret of an identity of another namespace: %v", err)
	}
}
