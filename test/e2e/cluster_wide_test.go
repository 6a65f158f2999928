// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/canary"
	"github.com/rekey/rekey/test/workload/report"
)

// internal is the authority of the samples.
var internal = v1alpha1.AuthorityReference{Kind: v1alpha1.AuthorityKindCluster, Name: "internal"}

// TestForTheWholeCluster runs the operator from config/default. Its subtests build on the samples, not on each other; the
// last one removes everything.
func TestForTheWholeCluster(t *testing.T) {
	explainFailure(t)
	sh(t, "make", "deploy", "KUBECTL="+env.kubectl, "IMG="+operatorImage)
	awaitOperator(t)
	folder := samples(t)
	kubectl(t, "apply", "-f", folder+"/00-namespaces.yaml")
	nameDatabase(t)
	kubectl(t, "apply", "-f", folder)
	awaitSamples(t)

	play(t, folder, []story{
		{"applying every sample a second time changes nothing", appliedTwice},
		{"pods that mount the Secrets see the rotations and work with them", podsFollow},
		{"deleting an identity with Delete removes its Secret", identityDeleted},
		{"deleting an identity with Retain leaves its Secret, and an identity of that name adopts it", identityRetained},
		{"deleting a credential with Delete removes Secret, ledger and logins", credentialDeleted},
		{"deleting a credential with Retain leaves everything, and a credential of that name adopts it", credentialRetained},
		{"an operator that is killed repeatedly in the middle of rotations refuses no client and leaves nothing behind", killed},
		{"a namespace that is deleted in the middle of a rotation goes with everything in it", namespaceEnds},
		{"the operator was refused nothing", nothingForbidden},
		{"no secret appears in logs, Events or statuses", nothingLeaked},
		{"undeploy leaves the Secrets with Retain", undeployed},
	})
}

// awaitSamples waits as a user does.
func awaitSamples(t *testing.T) {
	t.Helper()
	for _, kind := range []string{
		"clustercertificateauthorities", "certificateauthorities", "rotationpolicies",
		"clientidentities", "serveridentities", "databaseservers", "databasecredentials",
	} {
		said := kubectl(t, "wait", "--for=condition=Ready", kind, "--all", "--all-namespaces", "--timeout=60s")
		if !strings.Contains(said, "condition met") {
			t.Errorf("kubectl wait for %s found nothing: %s", kind, said)
		}
	}
}

// state returns what must not change: the generation of our objects, the resourceVersion of Secrets.
func state(t *testing.T) map[string]string {
	t.Helper()
	state := map[string]string{}
	for what, version := range map[string]string{"rekey": "{.metadata.generation}", "secrets": "{.metadata.resourceVersion}"} {
		for _, namespace := range []string{appNamespace, serverNamespace, "default"} {
			out := kubectl(t, "get", what, "-n", namespace, "-o",
				"jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name} "+version+"{\"\\n\"}{end}")
			for line := range strings.Lines(out) {
				at := strings.LastIndex(line, " ")
				state[line[:at]] = strings.TrimSpace(line[at:])
			}
		}
	}
	return state
}

func appliedTwice(s scene) {
	t, folder := s.T, s.samples
	before := state(t)
	if len(before) < 15 {
		t.Fatalf("the samples created only %d objects and Secrets: %v", len(before), before)
	}
	said := kubectl(t, "apply", "-f", folder)
	// kubectl takes stringData, which no Secret returns, for a change.
	apart := []string{"secret/orders-admin configured", "secret/orders-java-keystore configured"}
	for line := range strings.Lines(said) {
		if line := strings.TrimSpace(line); !strings.HasSuffix(line, " unchanged") && !slices.Contains(apart, line) {
			t.Errorf("the second apply prints: %s", line)
		}
	}
	kubectl(t, "apply", "--dry-run=server", "-f", folder+"/workload")
	awaitSamples(t)
	after := state(t)
	for what, version := range before {
		if after[what] != version {
			t.Errorf("%s was at %s before the second apply and is at %q after it", what, version, after[what])
		}
	}
}

// podsFollow rotates everything that the application and its server mount.
func podsFollow(s scene) {
	t, folder := s.T, s.samples
	kubectl(t, "apply", "-f", "test/e2e/testdata/api.yaml")
	kubectl(t, "wait", "--for=condition=Ready", "pod/api", "-n", serverNamespace, "--timeout=60s")
	deployment := workload(t, folder, "api."+serverNamespace+".svc")
	kubectl(t, "apply", "-f", deployment)
	t.Cleanup(func() {
		for _, file := range []string{deployment, "test/e2e/testdata/api.yaml"} {
			if _, err := env.run(context.WithoutCancel(t.Context()), env.kubectl, "delete", "--wait=false", "-f", file); err != nil {
				t.Error(err)
			}
		}
	})
	first := awaitCall(t, func(call report.Call) bool { return call.Error == "" })

	app := place{t: t, name: appNamespace}
	identity := &v1alpha1.ClientIdentity{ObjectMeta: app.meta("orders")}
	server := &v1alpha1.ServerIdentity{ObjectMeta: place{t: t, name: serverNamespace}.meta("api")}
	password := &v1alpha1.DatabaseCredential{ObjectMeta: app.meta("orders")}
	for _, object := range []client.Object{identity, server, password} {
		ready(t, object)
	}
	if first.Client != identity.Status.SerialNumber || first.Server != server.Status.SerialNumber || first.Login != password.Status.ActiveUsername {
		t.Errorf("the application worked with %+v, but the statuses say %s, %s and %s", first,
			identity.Status.SerialNumber, server.Status.SerialNumber, password.Status.ActiveUsername)
	}
	old := app.secret("orders-db").Data
	annotate(t, identity, "clientidentity", v1alpha1.AnnotationRotate, "now")
	annotate(t, server, "serveridentity", v1alpha1.AnnotationRotate, "now")
	annotate(t, password, "databasecredential", v1alpha1.AnnotationRotate, "now")
	was := [3]int64{identity.Status.Revision, server.Status.Revision, password.Status.Revision}
	eventually(t, soon, "waiting for the rotations", func() error {
		for _, object := range []client.Object{identity, server, password} {
			if err := env.kube.Get(t.Context(), client.ObjectKeyFromObject(object), object); err != nil {
				return err
			}
		}
		if is := [3]int64{identity.Status.Revision, server.Status.Revision, password.Status.Revision}; is != [3]int64{was[0] + 1, was[1] + 1, was[2] + 1} {
			return fmt.Errorf("the revisions were %v and are %v", was, is)
		}
		return nil
	})
	last := awaitCall(t, func(call report.Call) bool {
		return call.Client == identity.Status.SerialNumber && call.Server == server.Status.SerialNumber && call.Login == password.Status.ActiveUsername
	})
	if last.Password != 2 || last.Login == first.Login || last.Client == first.Client || last.Server == first.Server {
		t.Errorf("the first call was %+v, the last one %+v: want new certificates, another login and the second password", first, last)
	}
	if last.Failed != first.Failed || last.Error != "" {
		t.Errorf("%d calls failed during the rotations; the last call: %+v", last.Failed-first.Failed, last)
	}

	if _, err := env.database.logIn(t.Context(), old); err != nil {
		t.Errorf("the previous login within its overlap: %v", err)
	}
	annotate(t, password, "databasecredential", v1alpha1.AnnotationRetirePrevious, "now")
	eventually(t, soon, "waiting until the previous login is refused", func() error {
		if _, err := env.database.logIn(t.Context(), old); !errors.Is(err, errRefused) {
			return fmt.Errorf("the previous login: %w", err)
		}
		return nil
	})
}

// awaitCall waits for a matching call of the application.
func awaitCall(t *testing.T, fits func(report.Call) bool) report.Call {
	t.Helper()
	var call report.Call
	eventually(t, soon, "waiting for a call of the application", func() error {
		out, err := env.run(t.Context(), env.kubectl, "logs", "-n", appNamespace, "deployment/orders", "--tail=1")
		if err != nil {
			return err
		}
		call = report.Call{}
		if err := json.Unmarshal([]byte(out), &call); err != nil {
			return fmt.Errorf("reading %q: %w", out, err)
		}
		if !fits(call) {
			return fmt.Errorf("the last call was %+v", call)
		}
		return nil
	})
	return call
}

func identityDeleted(s scene) {
	t := s.T
	p := newPlace(t, "e2e-life")
	object := p.identity("short", internal, v1alpha1.DeletionDelete)
	ready(t, object)
	p.secret("short-mtls")
	remove(t, object)
	gone(t, &corev1.Secret{}, p.key("short-mtls"))
}

func identityRetained(s scene) {
	t := s.T
	p := newPlace(t, "e2e-life")
	object := p.identity("long", internal, v1alpha1.DeletionRetain)
	ready(t, object)
	was, serial := p.secret("long-mtls"), object.Status.SerialNumber
	remove(t, object)
	// A whole life of another object: anything that would delete the Secret has had its time.
	identityDeleted(s)
	sameData(t, "after the deletion", was, p.secret("long-mtls"))
	object = p.identity("long", internal, v1alpha1.DeletionRetain)
	ready(t, object)
	sameData(t, "after the adoption", was, p.secret("long-mtls"))
	if object.Status.SerialNumber != serial {
		t.Errorf("the identity adopted certificate %s, want %s", object.Status.SerialNumber, serial)
	}
}

func credentialDeleted(s scene) {
	t := s.T
	p := newPlace(t, "e2e-life")
	object := p.credential("short", v1alpha1.DeletionDelete)
	ready(t, object)
	old := p.secret("short-login").Data
	if _, err := env.database.logIn(t.Context(), old); err != nil {
		t.Fatal(err)
	}
	annotate(t, object, "databasecredential", v1alpha1.AnnotationRotate, "now")
	eventually(t, soon, "waiting for both logins", func() error {
		if logins := env.database.logins(t, "e2e_short_"); len(logins) != 2 {
			return fmt.Errorf("there are %v", logins)
		}
		return nil
	})
	if !slices.Contains(object.Finalizers, v1alpha1.Finalizer) {
		t.Errorf("the finalizers are %v", object.Finalizers)
	}
	remove(t, object)
	gone(t, &corev1.Secret{}, p.key("short-login"))
	gone(t, &corev1.Secret{}, p.key(secretstore.LedgerName("DatabaseCredential", "short")))
	if logins := env.database.logins(t, "e2e_short_"); len(logins) > 0 {
		t.Errorf("these logins were left behind: %v", logins)
	}
	if _, err := env.database.logIn(t.Context(), old); !errors.Is(err, errRefused) {
		t.Errorf("the deleted login: %v", err)
	}
}

func credentialRetained(s scene) {
	t := s.T
	p := newPlace(t, "e2e-life")
	object := p.credential("long", v1alpha1.DeletionRetain)
	ready(t, object)
	was := p.secret("long-login")
	ledger, err := p.ledger("long")
	if err != nil {
		t.Fatal(err)
	}
	remove(t, object)
	sameData(t, "after the deletion", was, p.secret("long-login"))
	if _, err := env.database.logIn(t.Context(), was.Data); err != nil {
		t.Errorf("after the deletion: %v", err)
	}
	left := p.secret(secretstore.LedgerName("DatabaseCredential", "long"))
	if left.Labels[v1alpha1.LabelRetained] == "" {
		t.Errorf("the remaining ledger is not labeled %s: %v", v1alpha1.LabelRetained, left.Labels)
	}
	object = p.credential("long", v1alpha1.DeletionRetain)
	ready(t, object)
	sameData(t, "after the adoption", was, p.secret("long-login"))
	if object.Status.Revision != ledger.Current.Seq {
		t.Errorf("the object adopted revision %d, want %d", object.Status.Revision, ledger.Current.Seq)
	}
	if logins := env.database.logins(t, "e2e_long_"); len(logins) != 1 {
		t.Errorf("there are %v, want the one login that was created before", logins)
	}
	if _, err := env.database.logIn(t.Context(), was.Data); err != nil {
		t.Errorf("after the adoption: %v", err)
	}
}

var forbidden = regexp.MustCompile(`(?i)forbidden|cannot (get|list|watch|create|update|patch|delete) resource`)

func nothingForbidden(s scene) {
	t := s.T
	text := env.logs.tail(-1)
	if strings.Count(text, `"Starting"`) < 2 {
		t.Fatalf("the logs of the operator do not start at its start:\n%.2000s", text)
	}
	for line := range strings.Lines(text) {
		if forbidden.MatchString(line) {
			t.Errorf("the operator logged: %s", line)
		}
	}
}

func nothingLeaked(s scene) {
	t := s.T
	texts := map[string]string{
		"the operator's log": env.logs.tail(-1),
		"the Events":         kubectl(t, "get", "events.events.k8s.io", "-A", "-o", "json"),
		"our objects":        kubectl(t, "get", "rekey", "-A", "-o", "json"),
		"the leases":         kubectl(t, "get", "leases", "-A", "-o", "json"),
		"the ConfigMaps":     kubectl(t, "get", "configmaps", "-A", "-o", "json"),
	}
	for what, text := range texts {
		if !strings.Contains(text, "rekey") {
			t.Errorf("%s holds nothing from rekey:\n%.500s", what, text)
		}
	}
	secrets := env.secrets.all()
	if len(secrets) < 20 {
		t.Fatalf("saw only %d secrets", len(secrets))
	}
	found := canary.Search(secrets, texts)
	// The admin of the samples cannot stop the server from logging statements. These hold verifiers, as the DatabaseServer's
	// message says, and never a password.
	maps.DeleteFunc(secrets, func(what string, _ []byte) bool { return strings.Contains(what, credential.KeyVerifier) })
	found = append(found, canary.Search(secrets, map[string]string{"PostgreSQL's log": env.database.LogText()})...)
	for _, found := range found {
		t.Error(found)
	}
}

// isOurs reports whether this test deployed the cluster-scoped object of that name. The namespaces of the samples are the
// user's.
func isOurs(name string) bool {
	return name == "rekey" || strings.HasSuffix(name, ".rekey.dev") || strings.HasPrefix(name, "rekey-") && !strings.HasPrefix(name, "rekey-samples")
}

func undeployed(s scene) {
	t := s.T
	p := newPlace(t, "e2e-undeploy")
	identity, login := p.identity("kept", internal, v1alpha1.DeletionRetain), p.credential("kept", v1alpha1.DeletionRetain)
	ready(t, identity)
	ready(t, login)
	was, wasLogin := p.secret("kept-mtls"), p.secret("kept-login")

	if out, err := env.run(t.Context(), "make", "undeploy", "KUBECTL="+env.kubectl); err == nil || !strings.Contains(err.Error(), "e2e-undeploy/kept") {
		t.Errorf("undeploy with a DatabaseCredential left prints %v: %s", err, out)
	}
	kubectl(t, "delete", "databasecredentials", "--all", "--all-namespaces", "--timeout=60s")
	// The keys of the authorities would be deleted with the operator's namespace: that requires confirmation.
	if out, err := env.run(t.Context(), "make", "undeploy", "KUBECTL="+env.kubectl); err == nil || !strings.Contains(err.Error(), "internal (Secret internal-ca)") {
		t.Errorf("undeploy with managed authorities left prints %v: %s", err, out)
	}
	sh(t, "make", "undeploy", "FORCE=1", "KUBECTL="+env.kubectl)

	for _, kind := range []string{"namespaces", "customresourcedefinitions", "clusterroles", "clusterrolebindings", "priorityclasses"} {
		for line := range strings.Lines(kubectl(t, "get", kind, "-o", "name")) {
			if name := strings.TrimSpace(line[strings.Index(line, "/")+1:]); isOurs(name) {
				t.Errorf("after undeploy there is still %s", line)
			}
		}
	}
	sameData(t, "after undeploy", was, p.secret("kept-mtls"))
	sameData(t, "after undeploy", wasLogin, p.secret("kept-login"))
	if _, err := env.database.logIn(t.Context(), wasLogin.Data); err != nil {
		t.Errorf("after undeploy: %v", err)
	}
	nothingForbidden(s) // Nor did it during the removal.
	// Those with Delete were deleted with their objects.
	gone(t, &corev1.Secret{}, client.ObjectKey{Namespace: appNamespace, Name: "orders-mtls"})
	gone(t, &corev1.Secret{}, client.ObjectKey{Namespace: appNamespace, Name: "orders-db"})
}
