// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"crypto/tls"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// scrape reads rekey's metrics as Prometheus does.
func (o *operator) scrape(t *testing.T, s *apiServer) string {
	t.Helper()
	status, text, err := o.scrapeAs(t, s.scraper(t))
	if err != nil || status != http.StatusOK {
		t.Fatalf("reading the metrics: %d: %.300s: %v", status, text, err)
	}
	return text
}

// scrapeAs reads rekey's metrics with a token.
func (o *operator) scrapeAs(t *testing.T, token string) (status int, text string, err error) {
	t.Helper()
	ask, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+o.metrics+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	ask.Header.Set("Authorization", "Bearer "+token)
	reader := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true}}
	answer, err := reader.Do(ask)
	if err != nil {
		return 0, "", err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(answer.Body)
	return answer.StatusCode, string(body), err
}

// reconciles returns how often the controller has reconciled an object, and fails unless it has finished.
func (o *operator) reconciles(t *testing.T, s *apiServer, controller string) int {
	t.Helper()
	total := 0
	for line := range strings.Lines(o.scrape(t, s)) {
		name, rest, ok := strings.Cut(line, "{")
		if !ok || !strings.Contains(rest, `"`+controller+`"`) {
			continue
		}
		_, text, _ := strings.Cut(rest, "} ")
		value, err := strconv.ParseFloat(strings.TrimSpace(text), 64)
		if err != nil {
			t.Fatalf("reading %q: %v", line, err)
		}
		switch name {
		case "controller_runtime_reconcile_total":
			total += int(value)
		case "workqueue_depth", "controller_runtime_active_workers":
			if value != 0 {
				t.Errorf("%s of a quiet operator: %v", name, value)
			}
		}
	}
	return total
}

// scraper returns the token of a service account that may read metrics.
func (s *apiServer) scraper(t *testing.T) string {
	t.Helper()
	if s.scraperToken != "" {
		return s.scraperToken
	}
	meta := metav1.ObjectMeta{Name: "scraper"}
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: operatorNamespace, Name: "scraper"}}
	for _, object := range []client.Object{
		account,
		&rbacv1.ClusterRole{ObjectMeta: meta, Rules: []rbacv1.PolicyRule{{NonResourceURLs: []string{"/metrics"}, Verbs: []string{"get"}}}},
		&rbacv1.ClusterRoleBinding{ObjectMeta: meta, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "scraper"},
			Subjects: []rbacv1.Subject{{Kind: rbacv1.ServiceAccountKind, Namespace: operatorNamespace, Name: "scraper"}}},
	} {
		if err := s.client.Create(t.Context(), object); err != nil && !apierrors.IsAlreadyExists(err) {
			t.Fatal(err)
		}
	}
	token := &authenticationv1.TokenRequest{}
	if err := s.client.SubResource("token").Create(t.Context(), account, token); err != nil {
		t.Fatal(err)
	}
	s.scraperToken = token.Status.Token
	return s.scraperToken
}
