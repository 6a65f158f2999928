// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const auditPolicy = `{"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived", "ResponseStarted"], "rules": [
  {"level": "None", "resources": [{"group": "coordination.k8s.io", "resources": ["leases"]}, {"group": "", "resources": ["events"]}]},
  {"level": "Metadata", "verbs": ["create", "update", "patch", "delete", "deletecollection"]}, {"level": "None"}]}`

// The lease, and the Event (of the core group) about its holder, are left out: they occur with or without work.
func TestFiveHundredIssuesAreTwoWritesAndAnEventEach(t *testing.T) {
	f := fleet{n: 500, namespaces: 1}
	dir := t.TempDir()
	policy, audit := filepath.Join(dir, "policy.json"), filepath.Join(dir, "audit.log")
	if err := os.WriteFile(policy, []byte(auditPolicy), 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := startAPIServer(t, map[string]string{"audit-policy-file": policy, "audit-log-path": audit, "audit-log-mode": "blocking"})
	used := f.prepare(t, s)
	kubeconfig := s.kubeconfig(t, "rekey")
	o := startRekey(t, kubeconfig)
	authorityReady(t, s, used.authority)
	w := s.applier.watch(t, "clientidentities", f.n)
	counted := issue(t, s, f, o, w).Requests

	written := changedBy(t, audit, "rekey")
	want := map[string]int{
		// The authority: its status, since its key pair was provided.
		"update certificateauthorities/status 200": 1,
		"create secrets 201":                       f.n, "update clientidentities/status 200": f.n,
		"create events 201": written["create events 201"],
	}
	if diff := cmp.Diff(want, written); diff != "" {
		t.Errorf("writes for %d issues (-want +got):\n%s", f.n, diff)
	}
	if events := written["create events 201"]; events > f.n+1 || events == 0 {
		t.Errorf("%d Events for %d issues", events, f.n)
	}
	if writesOf(counted) > 3*f.n {
		t.Errorf("the API server counted %v for %d issues", counted, f.n)
	}
	noErrors(t, o)
	o.stop(t)

	o = startRekey(t, kubeconfig)
	o.quiet(t)
	if looked := o.reconciles(t, s, "clientidentity"); looked < f.n {
		t.Errorf("after a restart %d of %d identities were reconciled", looked, f.n)
	}
	s.settled(t)
	after := less(changedBy(t, audit, "rekey"), written)
	// The test read its metrics, and it asked the API server about the reader.
	for _, asked := range []string{"create tokenreviews 201", "create subjectaccessreviews 201"} {
		delete(after, asked)
	}
	if len(after) > 0 {
		t.Errorf("a restart with nothing due wrote %v", after)
	}
	noErrors(t, o)
}

// noErrors fails if the operator has logged an error.
func noErrors(t *testing.T, o *operator) {
	t.Helper()
	text, err := os.ReadFile(o.log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var entry struct {
			Level string `json:"level"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err == nil && entry.Level != "error" {
			continue
		}
		t.Errorf("in its log: %s", line)
	}
}

// changedBy counts a user's requests that were meant to change something, including refused ones, by "verb
// resource/subresource code".
func changedBy(t *testing.T, audit, user string) map[string]int {
	t.Helper()
	file, err := os.Open(audit)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	out := map[string]int{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event struct {
			Verb string `json:"verb"`
			User struct {
				Username string `json:"username"`
			} `json:"user"`
			// ObjectRef names the object of the request.
			ObjectRef struct {
				Resource    string `json:"resource"`
				Subresource string `json:"subresource"`
			} `json:"objectRef"`
			ResponseStatus struct {
				Code int `json:"code"`
			} `json:"responseStatus"`
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatal(err)
		}
		if event.User.Username != user {
			continue
		}
		resource := event.ObjectRef.Resource
		if event.ObjectRef.Subresource != "" {
			resource += "/" + event.ObjectRef.Subresource
		}
		out[fmt.Sprintf("%s %s %d", event.Verb, resource, event.ResponseStatus.Code)]++
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}
