// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"encoding/json"
	"fmt"
	"maps"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/rekey/rekey/api/v1alpha1"
)

// decode converts an unstructured object into a value.
func decode(from *unstructured.Unstructured, into any, _ any) error {
	text, err := json.Marshal(from.Object)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// lastApplied is the annotation that kubectl apply leaves.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// objectParts are the parts of objects to search, each one a place of its own.
type objectParts map[string]*strings.Builder

func (s objectParts) put(place, where string, value any) {
	if value == nil {
		return
	}
	if s[place] == nil {
		s[place] = &strings.Builder{}
	}
	text, ok := value.(string)
	if !ok {
		encoded, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		text = string(encoded)
	}
	fmt.Fprintf(s[place], "%s: %s\n", where, text)
}

// kinds are all objects that the operator reads or writes.
var kinds = []schema.GroupVersionKind{
	{Version: "v1", Kind: "Secret"}, {Version: "v1", Kind: "ConfigMap"}, {Version: "v1", Kind: "Namespace"}, {Version: "v1", Kind: "Event"},
	{Group: "events.k8s.io", Version: "v1", Kind: "Event"}, {Group: "coordination.k8s.io", Version: "v1", Kind: "Lease"},
	v1alpha1.GroupVersion.WithKind("CertificateAuthority"), v1alpha1.GroupVersion.WithKind("ClusterCertificateAuthority"),
	v1alpha1.GroupVersion.WithKind("ClientIdentity"), v1alpha1.GroupVersion.WithKind("ServerIdentity"), v1alpha1.GroupVersion.WithKind("RotationPolicy"),
	v1alpha1.GroupVersion.WithKind("DatabaseServer"), v1alpha1.GroupVersion.WithKind("DatabaseCredential"),
}

// objects adds the contents of objects: of Secrets everything except their data.
func (c *cluster) objects(to objectParts) {
	c.t.Helper()
	for _, kind := range kinds {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(kind)
		if err := c.client.List(c.t.Context(), list); err != nil {
			c.t.Fatal(err)
		}
		for i := range list.Items {
			o := &list.Items[i]
			where := fmt.Sprintf("%s %s/%s", kind.Kind, o.GetNamespace(), o.GetName())
			annotations := o.GetAnnotations()
			to.put("annotations of kubectl apply", where, annotations[lastApplied])
			delete(annotations, lastApplied)
			to.put("annotations", where, annotations)
			to.put("labels", where, o.GetLabels())
			to.put("managed fields", where, o.GetManagedFields())
			to.put("statuses", where, o.Object["status"])
			content := maps.Clone(o.Object)
			delete(content, "metadata")
			delete(content, "status")
			switch kind.Kind {
			case "Secret":
			case "Event":
				to.put("Events", where, content)
			default:
				to.put("specs and data", where, content)
			}
		}
	}
}

// snapshot keeps the current contents of objects: something that is deleted later, or a condition that is replaced, was
// readable.
func (l *life) snapshot() {
	l.t.Helper()
	if l.seen == nil {
		l.seen = objectParts{}
	}
	l.objects(l.seen)
}

// texts returns all the places with their contents. An empty place is a mistake of the search.
func (l *life) texts() map[string]string {
	l.t.Helper()
	l.snapshot()
	to := objectParts{}
	for place, text := range l.seen {
		to.put(place, "at one time or another", text.String())
	}
	for _, o := range l.operators {
		to.put("metrics", "", o.scraped.String())
		to.put("standard output", "", o.stdout.String())
		to.put("standard error", "", o.stderr.String())
		to.put("arguments, environment and files of the process", "", o.place.String())
	}
	for _, r := range l.requests() {
		// The API server records the answer of a policy to any client.
		if r.ObjectRef.Resource == "secrets" && strings.Contains(r.ResponseStatus.Message, "policy-quoting") {
			continue
		}
		to.put("audit log", "", r.line)
	}
	for _, d := range l.databases {
		to.put(fmt.Sprintf("log of PostgreSQL %d", d.Version), "", d.LogText())
		to.put(fmt.Sprintf("pg_stat_statements of PostgreSQL %d", d.Version), "", d.statements())
		to.put(fmt.Sprintf("pg_stat_activity of PostgreSQL %d", d.Version), "", d.activity.String())
	}
	out := map[string]string{}
	for place, text := range to {
		out[place] = text.String()
	}
	return out
}
