// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/material"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/canary"
)

func (p place) ledger(ctx context.Context, credential string) (secretstore.Ledger, error) {
	secret := &corev1.Secret{}
	if err := env.kube.Get(ctx, p.key(ledgerOf(credential)), secret); err != nil {
		return secretstore.Ledger{}, err
	}
	return secretstore.DecodeLedger(secret.Data)
}

// settled is nil when nothing is left to do, though nobody wants anything.
func (s *scene) settled(ctx context.Context) error {
	objects := []client.Object{
		s.place.authority("peers"), s.place.server("postgres-15", 15), s.place.server("postgres-18", 18), s.place.policy("asked", 0), s.place.policy("scheduled", 0),
		s.place.serverIdentity("called", "", ""), s.place.clientIdentity("caller", "", ""),
		s.place.clientIdentity("doubted", "", ""),
	}
	if s.brief != nil {
		objects = append(objects, s.brief)
	}
	for name := range s.servers {
		objects = append(objects, s.place.credential(name, "", ""))
		ledger, err := s.place.ledger(ctx, name)
		switch {
		case err != nil:
			return err
		case ledger.Pending != nil || ledger.Previous != nil || ledger.Current == nil || ledger.Current.PublishedAt.IsZero():
			return fmt.Errorf("the ledger of %s is not settled: %d to %d", name, seqOf(ledger.Previous), seqOf(ledger.Pending))
		}
	}
	for _, object := range objects {
		if err := ready(ctx, object); err != nil {
			return err
		}
	}
	return s.restful(ctx)
}

// restful is nil when nothing becomes due while somebody looks at everything.
func (s *scene) restful(ctx context.Context) error {
	const aLook = 5 * time.Second
	now := &v1alpha1.DatabaseCredential{}
	if err := env.kube.Get(ctx, client.ObjectKeyFromObject(s.scheduled), now); err != nil {
		return err
	}
	if next := now.Status.NextRotationTime; next != nil && time.Until(next.Time) < aLook {
		return fmt.Errorf("%s rotates at %s", now.Name, next.UTC().Format(time.TimeOnly))
	}
	return nil
}

func seqOf(r *secretstore.Record) int64 {
	if r == nil {
		return 0
	}
	return r.Seq
}

// invariants looks at everything while nobody wants anything and everything is settled.
func (s *scene) invariants(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	ledgers := map[string]secretstore.Ledger{}
	for name := range s.servers {
		var err error
		if ledgers[name], err = s.place.ledger(ctx, name); err != nil {
			t.Error(err)
		}
	}
	// What is published is what is written down, and works.
	for name, ledger := range ledgers {
		secret := &corev1.Secret{}
		if err := env.kube.Get(ctx, s.place.key(name+"-login"), secret); err != nil {
			t.Error(err)
			continue
		}
		if string(secret.Data["password"]) != ledger.Current.Material.String(credential.KeyPassword) {
			t.Errorf("%s: the Secret does not show the current version of the ledger", name)
		}
		if err := logIn(ctx, secret.Data); err != nil {
			t.Errorf("%s: what is published: %v", name, err)
		}
	}
	s.numbers(t, ledgers)
	s.marks(t, ledgers)
	s.onePerRevision(t)
	s.onlyTheirs(t)
	s.saidIsSo(t)
}

// numbers compares the versions with what was asked for.
func (s *scene) numbers(t *testing.T, ledgers map[string]secretstore.Ledger) {
	t.Helper()
	s.busy.mu.Lock()
	defer s.busy.mu.Unlock()
	for _, name := range s.asked {
		if want, ledger := int64(1+s.busy.requests[name]), ledgers[name]; ledger.Current.Seq != want || ledger.LastSeq != want {
			t.Errorf("%s: version %d is current and %d was the last; %d rotations were asked for, so that both must be %d",
				name, ledger.Current.Seq, ledger.LastSeq, s.busy.requests[name], want)
		}
	}
	for _, name := range s.identities {
		if want, have := int64(1+s.busy.requests[name]), revisionOf(s.published.last(name+"-mtls")); have != want {
			t.Errorf("%s: revision %d is published; %d rotations were asked for, so that it must be %d", name, have, s.busy.requests[name], want)
		}
	}
	if have := revisionOf(s.published.last("doubted-mtls")); have != 1 {
		t.Errorf("doubted: revision %d is published, though nobody asked for another one", have)
	}
	if most, ledger := int64(1+s.busy.edits), ledgers[s.edited]; ledger.LastSeq > most {
		t.Errorf("%s: version %d was the last, though only %d edits asked for another one", s.edited, ledger.LastSeq, s.busy.edits)
	}
}

func revisionOf(secret *corev1.Secret) int64 {
	if secret == nil {
		return 0
	}
	number, _ := strconv.ParseInt(secret.Annotations[v1alpha1.AnnotationRevision], 10, 64) // 0 is no revision
	return number
}

var markForm = regexp.MustCompile(`^rekey [^/ ]+/([^/ ]+)/([^/ ]+) seq=([0-9]+)( retired)?$`)

// marks compares every login with the ledgers: each belongs to one, carries its mark, and only the current one lets in.
func (s *scene) marks(t *testing.T, ledgers map[string]secretstore.Ledger) {
	t.Helper()
	for version, database := range env.databases {
		roles, err := database.roles(t.Context())
		if err != nil {
			t.Error(err)
		}
		for _, role := range roles {
			base, slot := role.name[:max(0, len(role.name)-2)], role.name[len(role.name)-1:]
			name, ours := strings.CutPrefix(base, s.place.userOf(""))
			if !ours && slices.ContainsFunc(env.places, func(p place) bool { return strings.HasPrefix(base, p.userOf("")) }) {
				continue // of an earlier test
			}
			ledger, known := ledgers[name]
			mark := markForm.FindStringSubmatch(role.mark)
			if !ours || !known || s.servers[name] != version || mark == nil || mark[1] != s.place.name || mark[2] != name {
				t.Errorf("the login %s on PostgreSQL %d, marked %q, belongs to nobody", role.name, version, role.mark)
				continue
			}
			seq, err := strconv.ParseInt(mark[3], 10, 64)
			if err != nil {
				t.Error(err)
			}
			retired := mark[4] != ""
			switch current := ledger.Current; {
			case current.Slot == slot && (!role.canLogIn || retired || seq != current.Seq):
				t.Errorf("the login %s of the current version %d: marked %q, may log in: %t", role.name, current.Seq, role.mark, role.canLogIn)
			case current.Slot != slot && (role.canLogIn || !retired || seq > ledger.LastSeq):
				t.Errorf("the login %s, which no version needs (the last was %d): marked %q, may log in: %t", role.name, ledger.LastSeq, role.mark, role.canLogIn)
			}
		}
		for name, ledger := range ledgers {
			want := s.place.userOf(name) + "_" + ledger.Current.Slot
			if s.servers[name] == version && !slices.ContainsFunc(roles, func(r role) bool { return r.name == want }) {
				t.Errorf("the login %s of the current version is not on PostgreSQL %d", want, version)
			}
		}
	}
}

// onePerRevision looks through everything that was ever published: one content for a revision, one revision after the
// other, no material twice, and nothing before it was due.
func (s *scene) onePerRevision(t *testing.T) {
	t.Helper()
	s.published.mu.Lock()
	names := slices.Collect(maps.Keys(s.published.history))
	s.published.mu.Unlock()
	for _, name := range names {
		revision, known := int64(0), map[string]bool{}
		for _, one := range s.published.all(name) {
			if one.secret.Annotations[v1alpha1.AnnotationRevision] == "" {
				continue // a ledger, or a key pair
			}
			now := revisionOf(one.secret)
			for _, key := range []string{"password", corev1.TLSPrivateKeyKey} {
				value := string(one.secret.Data[key])
				if known[value] {
					t.Errorf("Secret %s: revision %d shows the %s of an earlier one", name, now, key)
				}
				known[value] = value != ""
			}
			if now <= revision || strings.HasSuffix(name, "-mtls") && now != revision+1 {
				t.Errorf("Secret %s: revision %d was published after %d", name, now, revision)
			}
			revision = now
		}
	}
	s.notEarly(t)
}

// notEarly compares when versions were made with when they were due.
func (s *scene) notEarly(t *testing.T) {
	t.Helper()
	ledgers, err := s.published.ledgers("scheduled")
	if err != nil {
		t.Error(err)
	}
	var before *secretstore.Record
	for _, ledger := range ledgers {
		if now := ledger.Current; now != nil {
			if before != nil && now.Seq != before.Seq && now.ProposedAt.Before(before.CommittedAt.Add(interval)) {
				t.Errorf("scheduled: version %d was made at %s, and version %d is from %s", now.Seq, now.ProposedAt, before.Seq, before.CommittedAt)
			}
			before = now
		}
	}
	var last time.Time
	for _, one := range s.published.all("brief-mtls") {
		block, _ := pem.Decode(one.secret.Data[corev1.TLSCertKey])
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Error(err)
			continue
		}
		issued := leaf.NotBefore.Add(material.Backdate)
		if !last.IsZero() && issued.Before(last.Add(renewal-time.Second)) { // certificates have whole seconds
			t.Errorf("brief: one certificate is from %s, and the next one from %s", last, issued)
		}
		last = issued
	}
}

// onlyTheirs looks for Secrets and records that belong to nobody.
func (s *scene) onlyTheirs(t *testing.T) {
	t.Helper()
	want := []string{"admin-15", "admin-18", "peers-ca", "called-mtls", "caller-mtls", "doubted-mtls"}
	if s.brief != nil {
		want = append(want, "brief-mtls")
	}
	for name := range s.servers {
		want = append(want, name+"-login", ledgerOf(name))
	}
	slices.Sort(want)
	var have []string
	// The garbage collector takes its time.
	err := await(t.Context(), patience, func(ctx context.Context) error {
		var secrets corev1.SecretList
		if err := env.kube.List(ctx, &secrets, client.InNamespace(s.place.name)); err != nil {
			return err
		}
		have = nil
		for _, secret := range secrets.Items {
			have = append(have, secret.Name)
		}
		slices.Sort(have)
		if !slices.Equal(have, want) {
			return errors.New("something is left")
		}
		return nil
	})
	if err != nil {
		t.Errorf("%v: the namespace has the Secrets %v, want %v", err, have, want)
	}
}

// nothingOld tries everything that was ever published: only the last of each is accepted.
func (s *scene) nothingOld(t *testing.T) {
	t.Helper()
	tried := 0
	for name := range s.servers {
		all := s.published.all(name + "-login")
		for i, one := range all[:len(all)-1] {
			if bytes.Equal(one.secret.Data["password"], all[len(all)-1].secret.Data["password"]) {
				continue
			}
			tried++
			if err := logIn(t.Context(), one.secret.Data); !errors.Is(err, errRefused) {
				t.Errorf("%s: what was published as number %d of %d: %v, want a refusal", name, i+1, len(all), err)
			}
		}
	}
	t.Logf("%d old passwords are refused", tried)
}

// restartsWriteNothing restarts twice while nothing is due: no object changes, no effect is even begun.
func (s *scene) restartsWriteNothing(t *testing.T) {
	t.Helper()
	before := s.versions(t)
	for range 2 {
		life := s.lives.start("")
		if err := life.awaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		pause(t.Context(), 5*time.Second) // what a start would do is done by then: a pass takes milliseconds
		if err := life.kill(); err != nil {
			t.Fatal(err)
		}
		for _, point := range life.passed() {
			if point != "" && !strings.HasSuffix(point, " Verify") { // a login that changes nothing
				t.Errorf("a restart with nothing due came to %q", point)
			}
		}
	}
	after := s.versions(t)
	for name, version := range after {
		if before[name] != version {
			t.Errorf("a restart with nothing due has written %s", name)
		}
	}
	if len(before) != len(after) || len(before) < 20 {
		t.Errorf("there were %d objects before the restarts and %d after", len(before), len(after))
	}
}

// versions are the resource versions of everything that the operator could write.
func (s *scene) versions(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	lists := []schema.GroupVersionKind{
		{Version: "v1", Kind: "SecretList"}, {Version: "v1", Kind: "ConfigMapList"}, {Group: "events.k8s.io", Version: "v1", Kind: "EventList"},
	}
	for _, kind := range []string{
		"CertificateAuthority", "ClusterCertificateAuthority", "ClientIdentity", "ServerIdentity", "RotationPolicy", "DatabaseServer", "DatabaseCredential",
	} {
		lists = append(lists, v1alpha1.GroupVersion.WithKind(kind+"List"))
	}
	for _, gvk := range lists {
		list := &unstructured.UnstructuredList{}
		list.SetGroupVersionKind(gvk)
		if err := env.kube.List(t.Context(), list); err != nil {
			t.Fatal(err)
		}
		for _, object := range list.Items {
			if strings.HasPrefix(object.GetNamespace(), s.place.name) || object.GetNamespace() == "" {
				out[gvk.Kind+" "+object.GetNamespace()+"/"+object.GetName()] = object.GetResourceVersion()
			}
		}
	}
	return out
}

// nothingSaid looks for every secret word in everything that operator and databases have said.
func (s *scene) nothingSaid(t *testing.T) {
	t.Helper()
	texts, secrets := s.lives.output(), s.published.secrets()
	for version, database := range env.databases {
		texts[fmt.Sprintf("the log of PostgreSQL %d", version)] = database.LogText()
		secrets[fmt.Sprintf("the admin's password on PostgreSQL %d", version)] = database.password.Reveal()
	}
	begun, size := time.Now(), 0
	for _, text := range texts {
		size += len(text)
	}
	for _, found := range canary.Search(secrets, texts) {
		t.Error(found)
	}
	t.Logf("%d secret words are in none of %d texts of %d kB together (%s)", len(secrets), len(texts), size>>10, time.Since(begun).Round(time.Millisecond))
}
