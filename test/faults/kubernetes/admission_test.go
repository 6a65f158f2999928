// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// writesOfRekey are all writes of a life, by verb and kind of object.
var writesOfRekey = map[string]func(world.Request) bool{
	"create the key pair of an authority":    secretsNamed("create", "internal-ca"),
	"create the record of an authority":      func(r world.Request) bool { return r.Verb == "create" && r.Kind == "ConfigMap" },
	"create the Secret of an identity":       secretsNamed("create", "app-mtls"),
	"update the Secret of an identity":       secretsNamed("update", "app-mtls"),
	"create the ledger":                      secretsNamed("create", "rekey-databasecredential-"),
	"update the ledger":                      secretsNamed("update", "rekey-databasecredential-"),
	"delete the ledger":                      secretsNamed("delete", "rekey-databasecredential-"),
	"create the Secret of a credential":      secretsNamed("create", "orders-db"),
	"update the Secret of a credential":      secretsNamed("update", "orders-db"),
	"delete the Secret of a credential":      secretsNamed("delete", "orders-db"),
	"update the finalizer":                   func(r world.Request) bool { return r.Verb == "update" && r.Kind == "DatabaseCredential" },
	"update the status of an authority":      statusOf("CertificateAuthority"),
	"update the status of an identity":       statusOf("ClientIdentity"),
	"update the status of a credential":      statusOf("DatabaseCredential"),
	"update the status of a DatabaseServer":  statusOf("DatabaseServer"),
	"every write of a Secret":                func(r world.Request) bool { return r.Writes() && r.Kind == "Secret" },
	"every write of anything":                func(r world.Request) bool { return r.Writes() },
	"every write of anything but the status": func(r world.Request) bool { return r.Writes() && r.Verb != "update status" },
}

func secretsNamed(verb, prefix string) func(world.Request) bool {
	return func(r world.Request) bool {
		return r.Verb == verb && r.Kind == "Secret" && strings.HasPrefix(r.Name, prefix)
	}
}

func statusOf(kind string) func(world.Request) bool {
	return func(r world.Request) bool { return r.Verb == "update status" && r.Kind == kind }
}

// refusals are the ways in which a webhook refuses: it chooses the code and the reason, and can quote the request.
var refusals = []metav1.Status{
	{Code: http.StatusForbidden, Reason: metav1.StatusReasonForbidden, Message: "not here"},
	{Code: http.StatusConflict, Reason: metav1.StatusReasonConflict, Message: "the object has been modified"},
	{Code: http.StatusConflict, Reason: metav1.StatusReasonAlreadyExists, Message: "there is one already"},
	{Code: http.StatusNotFound, Reason: metav1.StatusReasonNotFound, Message: "not found"},
	{Code: http.StatusGone, Reason: metav1.StatusReasonGone},
	{Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid, Message: "exceeded quota: theirs"},
	{Code: http.StatusTooManyRequests, Reason: metav1.StatusReasonTooManyRequests, Message: "slowly"},
	{Code: http.StatusServiceUnavailable, Reason: metav1.StatusReasonServiceUnavailable},
}

// T2: a real webhook refuses each write of rekey for half an hour, from its first occurrence or from the middle of a life.
// Nothing hangs, the published credentials work, one condition names the write and the webhook, nothing needs help afterwards,
// and a deletion ends in time.
func TestAWebhookThatRefusesAWriteIsReportedAndHarmsNothing(t *testing.T) {
	random, tried, met := size.Random(t, 0), 0, map[string]int{}
	names := slices.Sorted(maps.Keys(writesOfRekey))
	random.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
	for _, what := range names {
		for range size.Number(1, 4) {
			from, answer := random.IntN(5), refusals[random.IntN(len(refusals))]
			if random.IntN(2) == 0 {
				from = 0
			}
			policy := []v1alpha1.DeletionPolicy{v1alpha1.DeletionRetain, v1alpha1.DeletionDelete}[random.IntN(2)]
			name := fmt.Sprintf("%s, after %d, %d %s, %s", what, from, answer.Code, answer.Reason, policy)
			t.Run(name, func(t *testing.T) {
				n := refusedLife(t, writesOfRekey[what], from, answer, policy)
				tried, met[what] = tried+1, met[what]+n
			})
		}
	}
	t.Logf("%d lives; refused requests, by write: %v", tried, met)
}

// admissionLife is a life of every kind in which some writes are refused.
type admissionLife struct {
	*scene
	h        *webhook
	refuse   bool // while the webhook refuses
	armed    bool // while the current request is one that the webhook refuses
	refused  int
	identity *v1alpha1.ClientIdentity
	login    *v1alpha1.DatabaseCredential
	all      []client.Object
	// gate is switched together with refuse; words must occur in one condition while writes are refused.
	gate  func(shut bool)
	words []string
}

// shut sets whether the writes are refused from now on.
func (l *admissionLife) shut(refuse bool) {
	l.refuse = refuse
	if l.gate != nil {
		l.gate(refuse)
	}
}

func refusedLife(t *testing.T, target func(world.Request) bool, from int, answer metav1.Status, policy v1alpha1.DeletionPolicy) int {
	t.Helper()
	l := &admissionLife{scene: newScene(t), identity: fixture.ClientIdentity("app"), login: aCredential("orders"), refuse: true, words: []string{`"` + denierName + `"`}}
	l.identity.Spec.DeletionPolicy, l.login.Spec.DeletionPolicy = policy, policy
	l.h = startWebhook(t, l.World, denierName)
	l.h.set(func(*admissionv1.AdmissionRequest) *metav1.Status {
		if !l.armed {
			return nil
		}
		l.refused++
		return &answer
	}, nil)
	seen := 0
	l.setHook(func(_ context.Context, r world.Request, do func() error) error {
		if target(r) {
			seen++
			l.armed = l.refuse && seen > from
			defer func() { l.armed = false }()
		}
		return do()
	})
	authority, server := anAuthority(), aServer()
	l.all = []client.Object{authority, server, l.identity, l.login}
	l.Create(aPolicy(), fixture.AdminSecret(), authority, server, l.identity, l.login)
	l.phase("issue")
	l.Step(interval + time.Minute)
	l.phase("rotate")
	l.Step(overlap)
	l.phase("retire")
	l.repaired()
	l.end()
	return l.refused
}

// phase plays half an hour with the webhook.
func (l *admissionLife) phase(name string) {
	l.t.Helper()
	before := l.refused
	started := l.Clock.Now()
	for _, o := range l.all {
		l.Clock.SetTime(started)
		l.counted()
		reconciles := l.live(o, 30*time.Minute, l.checkPublished)
		if writes, all := l.counted(); reconciles > 200 || writes > 300 || all > 2500 {
			l.t.Errorf("%s of %s: %d reconciles, %d writes and %d requests in half an hour", name, o.GetName(), reconciles, writes, all)
		}
		l.Clock.SetTime(started)
		l.settle(o)
	}
	l.Clock.SetTime(started.Add(30 * time.Minute))
	if l.refused > before {
		l.checkNamed(name)
	}
}

// checkPublished must hold after every reconcile: the published credential is accepted.
func (l *admissionLife) checkPublished() {
	l.t.Helper()
	if secret := l.find("orders-db"); secret != nil && !l.accepted(secret) {
		l.t.Errorf("the published login is rejected:%s", describe(l.login))
	}
}

// checkNamed checks that one condition names the refusing webhook or policy. If all status writes are refused, no condition can.
func (l *admissionLife) checkNamed(phase string) {
	l.t.Helper()
	said := ""
	for _, o := range l.all {
		if err := l.Client.Get(l.Ctx, client.ObjectKeyFromObject(o), o); err == nil {
			said += describe(o)
		}
	}
	name := strings.ReplaceAll(l.t.Name(), "_", " ")
	// If no status can be written, no condition names the webhook.
	statuses := strings.Contains(name, "update the status") ||
		strings.Contains(name, "every write of anything") && !strings.Contains(name, "but the status")
	if statuses || with([]string{said}, l.words...) || l.healthy() {
		return
	}
	l.t.Errorf("%s: no condition contains %q:%s", phase, l.words, said)
}

func (l *admissionLife) healthy() bool {
	for _, o := range l.all {
		l.Get(o)
		if !healthy(o) {
			return false
		}
	}
	return true
}

// repaired admits everything: everything recovers without help.
func (l *admissionLife) repaired() {
	l.t.Helper()
	l.shut(false)
	started := l.Clock.Now()
	for range 2 { // objects that waited for others recover in the second round
		for _, o := range l.all {
			l.Clock.SetTime(started)
			l.live(o, 2*time.Hour, l.checkPublished)
		}
		started = l.Clock.Now()
	}
	for _, o := range l.all {
		l.Get(o)
		if !healthy(o) {
			l.t.Errorf("%s does not recover on its own:%s", o.GetName(), describe(o))
		}
	}
	if open := l.open(l.login); len(open) != 1 || !l.accepted(l.find("orders-db")) {
		l.t.Errorf("afterwards the logins %v are open:%s", open, describe(l.login))
	}
}

// end deletes the objects while the webhook refuses again.
func (l *admissionLife) end() {
	l.t.Helper()
	l.shut(true)
	l.Events()
	l.Delete(l.login)
	l.Delete(l.identity)
	l.live(l.login, 25*time.Minute)
	key := client.ObjectKeyFromObject(l.login)
	err := l.Client.Get(l.Ctx, key, &v1alpha1.DatabaseCredential{})
	if err == nil && !strings.Contains(l.t.Name(), "finalizer") && !strings.Contains(l.t.Name(), "every_write_of_anything") {
		l.t.Errorf("the credential still exists:%s", describe(l.login))
	}
	l.shut(false)
	for range 3 {
		l.live(l.login, 2*time.Minute)
	}
	if err := l.Client.Get(l.Ctx, key, &v1alpha1.DatabaseCredential{}); !apierrors.IsNotFound(err) {
		l.t.Errorf("the credential is not deleted although nothing prevents it: %v%s", err, describe(l.login))
	}
	reported := with(l.Events(), "Warning CleanupIncomplete")
	left := l.find("orders-db") != nil || l.find(ledgerName(l.login)) != nil || len(l.open(l.login)) > 0
	if l.login.Spec.DeletionPolicy == v1alpha1.DeletionDelete && left && !reported {
		l.t.Error("no Event reports what is left behind")
	}
}

// alterations are what a mutating webhook does to Secrets that rekey writes; reported must occur in a condition if the
// alteration does harm.
var alterations = map[string]struct {
	patch    []map[string]any
	reported string
}{
	"additional labels": {[]map[string]any{{"op": "add", "path": "/metadata/labels/team", "value": "web"}}, ""},
	"our label":         {[]map[string]any{{"op": "replace", "path": "/metadata/labels/app.kubernetes.io~1managed-by", "value": "platform"}}, "label app.kubernetes.io/managed-by"},
	"our revision":      {[]map[string]any{{"op": "add", "path": "/metadata/annotations/rekey.dev~1revision", "value": "999"}}, "annotation rekey.dev/revision"},
	"an additional key": {[]map[string]any{{"op": "add", "path": "/data/theirs", "value": "dGhlaXJz"}}, "data theirs"},
	"a password":        {[]map[string]any{{"op": "add", "path": "/data/password", "value": "dGhlaXJz"}}, "data password"},
	"a private key":     {[]map[string]any{{"op": "add", "path": "/data/tls.key", "value": "dGhlaXJz"}}, "data tls.key"},
	"immutable Secrets": {[]map[string]any{{"op": "add", "path": "/immutable", "value": true}}, "immutable"},
}

// T2: rekey reports a webhook that changes its writes, and what it changes, and does not fight it.
func TestAWebhookThatChangesSecretsIsReportedWithoutAFight(t *testing.T) {
	for name, what := range alterations {
		t.Run(name, func(t *testing.T) { altered(t, what.patch, what.reported) })
	}
}

func altered(t *testing.T, patch []map[string]any, reported string) {
	t.Helper()
	s := newScene(t)
	// rekey cannot know what the webhook stores: only the form of its statements is checked.
	s.restart(world.Options{Racing: true})
	authority, identity, login := anAuthority(), fixture.ClientIdentity("app"), aCredential("orders")
	s.ready(authority, aPolicy(), fixture.AdminSecret(), aServer())
	h := startWebhook(t, s.World, mutatorName)
	h.set(nil, func(request *admissionv1.AdmissionRequest, object map[string]any) []map[string]any {
		// No consumer reads the ledger: another test covers a webhook that rewrites it.
		if !isOurSecret(request, object) || strings.HasPrefix(request.Name, "rekey-") {
			return nil
		}
		return patch
	})
	s.Create(identity, login)
	for _, o := range []client.Object{identity, login} {
		s.counted()
		started := s.Clock.Now()
		s.live(o, 2*time.Hour)
		if writes, _ := s.counted(); writes > 120 {
			t.Errorf("%d writes in two hours of %s", writes, o.GetName())
		}
		s.Clock.SetTime(started)
	}
	said := describe(identity) + describe(login)
	if (reported == "" || reported == "immutable") != (isReady(identity) && isReady(login) && !strings.Contains(said, "AdmissionDenied")) || reported != "immutable" && !strings.Contains(said, reported) {
		t.Errorf("want %q:%s", reported, said)
	}
	s.Step(interval)
	s.live(identity, time.Hour)
	s.live(login, time.Hour)
	if reported == "immutable" && !with([]string{describe(identity) + describe(login)}, "immutable", "kubectl") {
		t.Errorf("nothing reports that the Secret is immutable:%s%s", describe(identity), describe(login))
	}
	h.set(nil, nil)
	if reported == "immutable" {
		for _, name := range []string{"app-mtls", "orders-db"} {
			if err := s.Client.Delete(s.Ctx, s.secret(name)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, o := range []client.Object{identity, login} {
		s.live(o, 2*time.Hour)
		if s.Get(o); !healthy(o) {
			t.Errorf("%s does not recover on its own:%s", o.GetName(), describe(o))
		}
	}
	if !s.accepted(s.find("orders-db")) {
		t.Error("the published login is rejected")
	}
}
