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
	"github.com/rekey/rekey/internal/pki"
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

// settled returns nil if nothing is left to do while the workload is paused.
func (s *scene) settled(ctx context.Context) error {
	objects := []client.Object{
		s.place.authority("peers"), s.place.server("postgres-15", 15), s.place.server("postgres-18", 18), s.place.policy("on-request", 0), s.place.policy("scheduled", 0),
		s.place.serverIdentity("called", "", ""), s.place.clientIdentity("caller", "", ""),
		s.place.clientIdentity("paused", "", ""),
	}
	if s.brief != nil {
		objects = append(objects, s.brief)
	}
	for name := range s.servers {
		objects = append(objects, s.place.credential(name, "", ""))
	}
	for _, object := range objects {
		if err := ready(ctx, object); err != nil {
			return err
		}
	}
	// The ledgers are read last: an object whose spec was just edited is Ready while it rotates.
	for name := range s.servers {
		ledger, err := s.place.ledger(ctx, name)
		switch {
		case err != nil:
			return err
		case ledger.Pending != nil || ledger.Previous != nil || ledger.Current == nil || ledger.Current.PublishedAt.IsZero():
			return fmt.Errorf("the ledger of %s is not settled: %d to %d", name, seqOf(ledger.Previous), seqOf(ledger.Pending))
		}
	}
	return s.idle(ctx)
}

// idle returns nil if nothing becomes due during the checks.
func (s *scene) idle(ctx context.Context) error {
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

// checkInvariants checks everything while the workload is paused and everything is settled.
func (s *scene) checkInvariants(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	ledgers := map[string]secretstore.Ledger{}
	for name := range s.servers {
		var err error
		if ledgers[name], err = s.place.ledger(ctx, name); err != nil {
			t.Error(err)
		}
	}
	// The published credential is the one in the ledger, and works.
	for name, ledger := range ledgers {
		secret := &corev1.Secret{}
		if err := env.kube.Get(ctx, s.place.key(name+"-login"), secret); err != nil {
			t.Error(err)
			continue
		}
		if string(secret.Data["password"]) != ledger.Current.Material.String(credential.KeyPassword) {
			t.Errorf("%s: the Secret does not show the ledger's current version", name)
		}
		if err := logIn(ctx, secret.Data); err != nil {
			t.Errorf("%s: the published credential: %v", name, err)
		}
	}
	s.checkRevisions(t, ledgers)
	s.checkMarkers(t, ledgers)
	s.checkHistory(t)
	s.checkNoLeftovers(t)
	s.checkStatuses(t)
}

// checkRevisions compares the versions with the number of requests.
func (s *scene) checkRevisions(t *testing.T, ledgers map[string]secretstore.Ledger) {
	t.Helper()
	s.workload.mu.Lock()
	defer s.workload.mu.Unlock()
	for _, name := range s.onRequest {
		if want, ledger := int64(1+s.workload.requests[name]), ledgers[name]; ledger.Current.Seq != want || ledger.LastSeq != want {
			t.Errorf("%s: version %d is current and %d was the last; %d rotations were requested, so both must be %d",
				name, ledger.Current.Seq, ledger.LastSeq, s.workload.requests[name], want)
		}
	}
	for _, name := range s.identities {
		if want, have := int64(1+s.workload.requests[name]), revisionOf(s.published.last(name+"-mtls")); have != want {
			t.Errorf("%s: revision %d is published; %d rotations were requested, so it must be %d", name, have, s.workload.requests[name], want)
		}
	}
	if have := revisionOf(s.published.last("paused-mtls")); have != 1 {
		t.Errorf("paused: revision %d is published without a request for it", have)
	}
	if most, ledger := int64(1+s.workload.edits), ledgers[s.edited]; ledger.LastSeq > most {
		t.Errorf("%s: version %d was the last, but there were only %d edits", s.edited, ledger.LastSeq, s.workload.edits)
	}
}

func revisionOf(secret *corev1.Secret) int64 {
	if secret == nil {
		return 0
	}
	number, _ := strconv.ParseInt(secret.Annotations[v1alpha1.AnnotationRevision], 10, 64) // 0 is not a revision
	return number
}

var markForm = regexp.MustCompile(`^rekey [^/ ]+/([^/ ]+)/([^/ ]+) seq=([0-9]+)( retired)?$`)

// checkMarkers compares every login with the ledgers: each belongs to a ledger and carries its marker, and only the current one
// accepts connections.
func (s *scene) checkMarkers(t *testing.T, ledgers map[string]secretstore.Ledger) {
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
				continue // from an earlier test
			}
			ledger, known := ledgers[name]
			mark := markForm.FindStringSubmatch(role.mark)
			if !ours || !known || s.servers[name] != version || mark == nil || mark[1] != s.place.name || mark[2] != name {
				t.Errorf("login %s on PostgreSQL %d, marked %q, belongs to no ledger", role.name, version, role.mark)
				continue
			}
			seq, err := strconv.ParseInt(mark[3], 10, 64)
			if err != nil {
				t.Error(err)
			}
			retired := mark[4] != ""
			switch current := ledger.Current; {
			case current.Slot == slot && (!role.canLogIn || retired || seq != current.Seq):
				t.Errorf("login %s of the current version %d: marked %q, can log in: %t", role.name, current.Seq, role.mark, role.canLogIn)
			case current.Slot != slot && (role.canLogIn || !retired || seq > ledger.LastSeq):
				t.Errorf("login %s, which no version needs (the last was %d): marked %q, can log in: %t", role.name, ledger.LastSeq, role.mark, role.canLogIn)
			}
		}
		for name, ledger := range ledgers {
			want := s.place.userOf(name) + "_" + ledger.Current.Slot
			if s.servers[name] == version && !slices.ContainsFunc(roles, func(r role) bool { return r.name == want }) {
				t.Errorf("login %s of the current version does not exist on PostgreSQL %d", want, version)
			}
		}
	}
}

// checkHistory checks everything that was ever published: one content per revision, ascending revisions, no material twice, and
// nothing before it was due.
func (s *scene) checkHistory(t *testing.T) {
	t.Helper()
	s.published.mu.Lock()
	names := slices.Collect(maps.Keys(s.published.history))
	s.published.mu.Unlock()
	for _, name := range names {
		revision, known := int64(0), map[string]bool{}
		for _, one := range s.published.all(name) {
			if one.secret.Annotations[v1alpha1.AnnotationRevision] == "" {
				continue // a ledger or a key pair
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
	s.checkNothingEarly(t)
}

// checkNothingEarly compares the creation times of versions with the times at which they were due.
func (s *scene) checkNothingEarly(t *testing.T) {
	t.Helper()
	ledgers, err := s.published.ledgers("scheduled")
	if err != nil {
		t.Error(err)
	}
	var before *secretstore.Record
	for _, ledger := range ledgers {
		if now := ledger.Current; now != nil {
			if before != nil && now.Seq != before.Seq && now.ProposedAt.Before(before.CommittedAt.Add(interval)) {
				t.Errorf("scheduled: version %d was created at %s, and version %d at %s", now.Seq, now.ProposedAt, before.Seq, before.CommittedAt)
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
		issued := leaf.NotBefore.Add(pki.Backdate)
		if !last.IsZero() && issued.Before(last.Add(renewal-time.Second)) { // certificates have whole seconds
			t.Errorf("brief: one certificate was issued at %s, and the next one at %s", last, issued)
		}
		last = issued
	}
}

// checkNoLeftovers looks for Secrets and records without an owner.
func (s *scene) checkNoLeftovers(t *testing.T) {
	t.Helper()
	want := []string{"admin-15", "admin-18", "peers-ca", "called-mtls", "caller-mtls", "paused-mtls"}
	if s.brief != nil {
		want = append(want, "brief-mtls")
	}
	for name := range s.servers {
		want = append(want, name+"-login", ledgerOf(name))
	}
	slices.Sort(want)
	var have []string
	// Garbage collection takes a while.
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
			return errors.New("objects are left behind")
		}
		return nil
	})
	if err != nil {
		t.Errorf("%v: the namespace has the Secrets %v, want %v", err, have, want)
	}
}

// checkOldCredentialsRejected tests every credential that was ever published: only the latest one of each is accepted.
func (s *scene) checkOldCredentialsRejected(t *testing.T) {
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
				t.Errorf("%s: published credential number %d of %d: %v, want it to be rejected", name, i+1, len(all), err)
			}
		}
	}
	t.Logf("%d old passwords are rejected", tried)
}

// checkRestartsWriteNothing restarts twice while nothing is due: no object changes, and no effect even starts.
func (s *scene) checkRestartsWriteNothing(t *testing.T) {
	t.Helper()
	before := s.resourceVersions(t)
	for range 2 {
		life := s.lives.start("")
		if err := life.awaitReady(t.Context()); err != nil {
			t.Fatal(err)
		}
		pause(t.Context(), 5*time.Second) // long enough for a start: a reconcile takes milliseconds
		if err := life.kill(); err != nil {
			t.Fatal(err)
		}
		for _, point := range life.passed() {
			if point != "" && !strings.HasSuffix(point, " Verify") { // a login that changes nothing
				t.Errorf("a restart with nothing due reached %q", point)
			}
		}
	}
	after := s.resourceVersions(t)
	for name, version := range after {
		if before[name] != version {
			t.Errorf("a restart with nothing due wrote %s", name)
		}
	}
	if len(before) != len(after) || len(before) < 20 {
		t.Errorf("there were %d objects before the restarts and %d after", len(before), len(after))
	}
}

// resourceVersions returns the resource versions of everything that the operator can write.
func (s *scene) resourceVersions(t *testing.T) map[string]string {
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

// checkNoLeaks searches all output of the operator and the databases for every secret value.
func (s *scene) checkNoLeaks(t *testing.T) {
	t.Helper()
	texts, secrets := s.lives.output(), s.published.secrets()
	for version, database := range env.databases {
		texts[fmt.Sprintf("the log of PostgreSQL %d", version)] = database.LogText()
		secrets[fmt.Sprintf("the admin's password on PostgreSQL %d", version)] = database.password.Reveal()
	}
	started, size := time.Now(), 0
	for _, text := range texts {
		size += len(text)
	}
	for _, found := range canary.Search(secrets, texts) {
		t.Error(found)
	}
	t.Logf("%d secret values occur in none of %d texts of %d kB in total (%s)", len(secrets), len(texts), size>>10, time.Since(started).Round(time.Millisecond))
}
