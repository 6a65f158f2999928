// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package failpoint

import (
	"io"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"

	"github.com/rekey/rekey/internal/secretstore"
)

// Transport returns a transport with a point before and after every request that is meant to change something.
func (p *Points) Transport(inner http.RoundTripper) http.RoundTripper {
	return &transport{inner: inner, points: p}
}

type transport struct {
	inner  http.RoundTripper
	points *Points
}

// verbs maps the methods of requests that change something to verbs.
var verbs = map[string]string{
	http.MethodPost: "create", http.MethodPut: "update", http.MethodPatch: "patch", http.MethodDelete: "delete",
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	verb, changes := verbs[request.Method]
	if !changes {
		return t.inner.RoundTrip(request)
	}
	what := verb + " " + resourceOf(request.URL.Path)
	if kind := secretOf(request); kind != "" {
		what += " (" + kind + ")"
	}
	return around(t.points, what, func() (*http.Response, error) { return t.inner.RoundTrip(request) })
}

// resourceOf returns "resource" or "resource/subresource" from the path of a request: /api/v1/... or
// /apis/group/version/..., then namespaces/NAME/ if the object is in one, then resource, name and subresource.
func resourceOf(path string) string {
	parts := strings.Split(strings.Trim(path, "/"), "/")
	skip := map[string]int{"api": 2, "apis": 3}[parts[0]]
	parts = parts[min(skip, len(parts)):]
	if len(parts) > 2 && parts[0] == "namespaces" {
		parts = parts[2:]
	}
	switch len(parts) {
	case 0:
		return "nothing"
	case 3:
		return parts[0] + "/" + parts[2]
	}
	return parts[0]
}

// secretOf returns which Secret a request writes: the last part of its type, and for a ledger the step that it records.
func secretOf(request *http.Request) string {
	if request.GetBody == nil {
		return ""
	}
	body, err := request.GetBody()
	if err != nil {
		return ""
	}
	defer func() { _ = body.Close() }()
	text, err := io.ReadAll(body)
	if err != nil {
		return ""
	}
	object, _, err := clientgoscheme.Codecs.UniversalDeserializer().Decode(text, nil, nil)
	if err != nil {
		return "" // not one of Kubernetes' own kinds
	}
	secret, ok := object.(*corev1.Secret)
	if !ok {
		return ""
	}
	kind := string(secret.Type)[strings.LastIndex(string(secret.Type), "/")+1:]
	if ledger, err := secretstore.DecodeLedger(secret.Data); kind == "ledger" && err == nil {
		kind += " " + stepOf(ledger)
	}
	return kind
}

// stepOf returns the step that a ledger records.
func stepOf(l secretstore.Ledger) string {
	switch {
	case l.Pending != nil:
		return string(l.Pending.Stage)
	case l.Current == nil:
		return "empty"
	case l.Current.PublishedAt.IsZero():
		return "Committed"
	case l.Previous != nil:
		return "Published"
	}
	return "Settled"
}
