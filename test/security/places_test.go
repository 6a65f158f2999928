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

// decode turns what was read without a type into a value.
func decode(from *unstructured.Unstructured, into any, _ any) error {
	text, err := json.Marshal(from.Object)
	if err != nil {
		return err
	}
	return json.Unmarshal(text, into)
}

// lastApplied is the annotation that kubectl apply leaves.
const lastApplied = "kubectl.kubernetes.io/last-applied-configuration"

// shelves are the parts of objects that are looked through, each one a place of its own.
type shelves map[string]*strings.Builder

func (s shelves) put(place, where string, value any) {
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

// objects adds what stands in objects: of Secrets everything but their data.
func (c *cluster) objects(to shelves) {
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

// snapshot keeps what stands in objects now: what somebody deletes later, or a later condition replaces, was readable.
func (l *life) snapshot() {
	l.t.Helper()
	if l.seen == nil {
		l.seen = shelves{}
	}
	l.objects(l.seen)
}

// texts are all the places, with what stands there. A place in which nothing stands is a mistake of the search.
func (l *life) texts() map[string]string {
	l.t.Helper()
	l.snapshot()
	to := shelves{}
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
		// What a policy of the cluster answers is written down by the API server, whoever asked.
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
