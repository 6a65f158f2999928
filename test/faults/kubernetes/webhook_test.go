// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/world"
)

// webhook is a real webhook: the API server calls it, over TLS, for every write in one namespace.
type webhook struct {
	name string

	mu sync.Mutex
	// deny returns the status of a refusal; nil admits. patch returns the JSON patch for an admitted request; only the mutating
	// webhook uses it.
	deny  func(*admissionv1.AdmissionRequest) *metav1.Status
	patch func(*admissionv1.AdmissionRequest, map[string]any) []map[string]any
	asked int
}

const (
	denierName  = "deny.example.com"
	mutatorName = "mutate.example.com"
)

// startWebhook registers a webhook for the world's namespace, and waits until the API server calls it.
func startWebhook(t *testing.T, w *world.World, name string) *webhook {
	t.Helper()
	h := &webhook{name: name}
	server := httptest.NewTLSServer(h)
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	rules := []admissionregistrationv1.RuleWithOperations{{
		Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.OperationAll},
		Rule:       admissionregistrationv1.Rule{APIGroups: []string{"", "rekey.dev", "events.k8s.io"}, APIVersions: []string{"*"}, Resources: []string{"secrets", "configmaps", "events", "databasecredentials", "databasecredentials/status", "clientidentities/status", "certificateauthorities/status", "databaseservers/status"}},
	}}
	none, fail, seconds := admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Fail, int32(5)
	config := admissionregistrationv1.WebhookClientConfig{URL: &server.URL, CABundle: ca}
	selector := &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: w.Namespace}}
	var object client.Object = &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: w.Namespace},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{Name: name, Rules: rules, ClientConfig: config, NamespaceSelector: selector,
			SideEffects: &none, FailurePolicy: &fail, TimeoutSeconds: &seconds, AdmissionReviewVersions: []string{"v1"}}},
	}
	if name == mutatorName {
		object = &admissionregistrationv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: w.Namespace},
			Webhooks: []admissionregistrationv1.MutatingWebhook{{Name: name, Rules: rules, ClientConfig: config, NamespaceSelector: selector,
				SideEffects: &none, FailurePolicy: &fail, TimeoutSeconds: &seconds, AdmissionReviewVersions: []string{"v1"}}},
		}
	}
	if err := w.Client.Create(w.Ctx, object); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Client.Delete(t.Context(), object) })
	until(t, func() bool {
		probe := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, GenerateName: "probe-"}}
		_ = w.Client.Create(w.Ctx, probe, client.DryRunAll)
		h.mu.Lock()
		defer h.mu.Unlock()
		return h.asked > 0
	}, func() string { return "the API server does not call the webhook" })
	return h
}

// ServeHTTP implements http.Handler.
func (h *webhook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(r.Body).Decode(&review); err != nil || review.Request == nil {
		http.Error(w, "no review", http.StatusBadRequest)
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.asked++
	review.Response = &admissionv1.AdmissionResponse{UID: review.Request.UID, Allowed: true}
	if h.deny != nil {
		if status := h.deny(review.Request); status != nil {
			review.Response.Allowed, review.Response.Result = false, status
		}
	}
	if h.patch != nil && review.Response.Allowed && len(review.Request.Object.Raw) > 0 {
		if err := h.answerWithPatch(review.Request, review.Response); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	review.Request = nil
	if err := json.NewEncoder(w).Encode(review); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
	}
}

func (h *webhook) answerWithPatch(request *admissionv1.AdmissionRequest, response *admissionv1.AdmissionResponse) error {
	var object map[string]any
	if err := json.Unmarshal(request.Object.Raw, &object); err != nil {
		return fmt.Errorf("reading the object: %w", err)
	}
	patch := h.patch(request, object)
	if len(patch) == 0 {
		return nil
	}
	text, err := json.Marshal(patch)
	if err != nil {
		return fmt.Errorf("writing the patch: %w", err)
	}
	kind := admissionv1.PatchTypeJSONPatch
	response.Patch, response.PatchType = text, &kind
	return nil
}

// set sets what the webhook does from now on.
func (h *webhook) set(deny func(*admissionv1.AdmissionRequest) *metav1.Status, patch func(*admissionv1.AdmissionRequest, map[string]any) []map[string]any) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.deny, h.patch = deny, patch
}

// isOurSecret reports whether a request is about a Secret that rekey manages for an object.
func isOurSecret(request *admissionv1.AdmissionRequest, object map[string]any) bool {
	metadata, _ := object["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	return request.Resource.Resource == "secrets" && annotations["rekey.dev/owner"] != nil
}

// A Secret whose label a webhook rewrites is in no cache of rekey, and the watch never reports it: no reconcile may wait for
// that.
func TestASecretThatTheCacheNeverSeesBlocksNoReconcile(t *testing.T) {
	s := newScene(t)
	h := startWebhook(t, s.World, mutatorName)
	h.set(nil, func(request *admissionv1.AdmissionRequest, object map[string]any) []map[string]any {
		if !isOurSecret(request, object) {
			return nil
		}
		return []map[string]any{{"op": "add", "path": "/metadata/labels/app.kubernetes.io~1managed-by", "value": "platform"}}
	})
	startOperator(t, world.APIServer(), s.Namespace, s.Fake)
	authority, identity := anAuthority(), fixture.ClientIdentity("app")
	s.Create(authority, identity)
	published := func() bool { s.Get(identity); return identity.Status.Revision > 0 }
	until(t, published, func() string { return "nothing is published:" + describe(identity) })
	for n := range 3 {
		s.Edit(identity, func() { identity.Spec.SecretTemplate = templateWith("round", fmt.Sprint(n)) })
		started := time.Now()
		until(t, func() bool { s.Get(identity); return identity.Status.ObservedGeneration == identity.Generation },
			func() string { return "it is not requeued:" + describe(identity) })
		if took := time.Since(started); took > 20*time.Second {
			t.Errorf("a change was seen only after %s", took)
		}
	}
	until(t, func() bool {
		s.Get(identity)
		return with([]string{describe(identity)}, "AdmissionDenied", "label app.kubernetes.io/managed-by")
	},
		func() string { return "nothing reports that a webhook rewrites the label:" + describe(identity) })
	h.set(nil, nil)
	untilHealthy(t, s.Client, identity)
}

func templateWith(key, value string) *v1alpha1.SecretTemplate {
	return &v1alpha1.SecretTemplate{Annotations: map[string]v1alpha1.TemplateAnnotationValue{key: v1alpha1.TemplateAnnotationValue(value)}}
}
