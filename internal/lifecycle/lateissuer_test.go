// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	testclock "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/lifecycle"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

// These cases drive the real store: a certificate with an issuer that answers late, or with a proof that takes long, is Durable and
// not Revocable. Its candidate is in a ledger, and its current version in the user's Secret.

// lateIssuer answers a request the fourth time that it gets it. Its proofs use an endpoint that may not answer.
type lateIssuer struct {
	t      *testing.T
	clock  *testclock.FakePassiveClock
	key    *ecdsa.PrivateKey
	asked  map[string]int // by version and request
	issued int
	answer credential.Answer // about the endpoint
	defect error             // of each certificate; nil if there is none
	denies bool              // answers each request with a denial
	holds  bool              // answers no request
	behind time.Duration     // how far its clock is behind
	atOnce bool              // answers the first time
}

// requestsBeforeAnIssue is how many times the issuer answers Pending.
const requestsBeforeAnIssue = 3

func (i *lateIssuer) Traits() credential.Traits { return credential.Traits{Durable: !i.atOnce} }

func (i *lateIssuer) Propose(credential.Ref) (credential.Material, error) {
	key, request, err := pki.NewKeyAndRequest(pki.ECDSAP256, pki.Names{CommonName: "orders"})
	return credential.Material{credential.KeyPrivateKey: key, credential.KeyRequest: credential.NewSensitive(request)}, err
}

func (i *lateIssuer) Stage(ctx context.Context, change credential.Change) (credential.Staged, error) {
	if err := change.Confirm(ctx); err != nil {
		return credential.Staged{}, err
	}
	request := change.Material[credential.KeyRequest].Reveal()
	id := fmt.Sprintf("%d/%x", change.Ref.Seq, sha256.Sum256(request))
	if i.asked[id]++; !i.atOnce && i.asked[id] <= requestsBeforeAnIssue {
		return credential.Staged{}, fault.Pending(30*time.Second, errors.New("the request waits for approval"))
	}
	switch {
	case i.denies:
		return credential.Staged{}, fault.Permanent(fault.IssuanceFailed, errors.New("the request was denied"))
	case i.holds:
		return credential.Staged{}, fault.Pending(30*time.Second, errors.New("the request waits for approval"))
	}
	block, _ := pem.Decode(request)
	parsed, err := x509.ParseCertificateRequest(block.Bytes)
	if err != nil {
		return credential.Staged{}, err
	}
	i.issued++
	now := i.clock.Now().Add(-i.behind)
	leaf := &x509.Certificate{
		SerialNumber: big.NewInt(int64(i.issued)), Subject: parsed.Subject, NotBefore: now.Add(-time.Minute), NotAfter: now.Add(240 * time.Hour).Truncate(time.Second),
	}
	issuer := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "late"}}
	der, err := x509.CreateCertificate(rand.Reader, leaf, issuer, parsed.PublicKey, i.key)
	if err != nil {
		return credential.Staged{}, err
	}
	out := change.Material.Clone()
	delete(out, credential.KeyRequest)
	chain := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return credential.Staged{Material: out.With(credential.KeyCertificate, chain), NotAfter: leaf.NotAfter.UTC()}, nil
}

func (i *lateIssuer) Verify(context.Context, credential.Ref, credential.Material) (credential.Answer, error) {
	if i.answer == credential.Unknown {
		return i.answer, errors.New("the endpoint does not answer")
	}
	return i.answer, i.defect
}

func (i *lateIssuer) Retire(context.Context, credential.Change) error {
	i.t.Error("nothing revokes a certificate, so nothing is to be retired")
	return nil
}

// lateWorld is an API server with one object, its issuer, and a process.
type lateWorld struct {
	api     client.Client
	issuer  *lateIssuer
	driver  *lifecycle.Driver
	rotate  string
	restart bool // before every reconcile
	edited  bool // the object, since the process with the old cache read it
	away    bool // the authority: neither its issuer nor the key that signs is known
}

func newLateWorld(t *testing.T, answer credential.Answer) *lateWorld {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &lateWorld{
		api:    fake.NewClientBuilder().WithScheme(clientgoscheme.Scheme).Build(),
		issuer: &lateIssuer{t: t, clock: testclock.NewFakePassiveClock(start), key: key, asked: map[string]int{}, answer: answer},
	}
	w.boot()
	return w
}

func (w *lateWorld) boot() {
	w.driver = &lifecycle.Driver{
		Clock: w.issuer.clock, Skew: func() (time.Duration, bool) { return 0, true }, Attempts: &lifecycle.Attempts{},
	}
}

func (w *lateWorld) reconcile() lifecycle.Outcome {
	if w.restart {
		w.boot()
	}
	return w.driver.Drive(background, w.subject())
}

// subject is the credential as its controller resolves it.
func (w *lateWorld) subject() lifecycle.Credential {
	out := lifecycle.Credential{
		Kind: "ClientIdentity", Ref: credential.Ref{Cluster: "cluster", Namespace: "web", Name: "orders"}, UID: "uid-1",
		Policy: rotation.Policy{RenewBefore: 80 * time.Hour, WarnBefore: 40 * time.Hour, AlarmBefore: 8 * time.Hour},
		Traits: w.issuer.Traits(), Fingerprint: "v1", Source: w.issuer, Rotate: w.rotate,
		Store: secretstore.NewPublished(w.options()),
	}
	if w.away {
		unmet := rotation.Unmet{Reason: string(fault.AuthorityNotReady), Message: "The authority is not ready."}
		out.Source, out.SourceErr, out.Preconditions = nil, errors.New("the authority is not ready"), []rotation.Unmet{unmet}
		out.Fingerprint = "v1 of any key"
	}
	return out
}

func (w *lateWorld) options() secretstore.PublishedOptions {
	var candidates client.Client
	if w.issuer.Traits().Durable {
		candidates = w.api
	}
	return secretstore.PublishedOptions{
		Options: secretstore.Options{
			Client: w.api, Live: w.api, DeletionPolicy: v1alpha1.DeletionDelete,
			Owner:     secretstore.Owner{GVK: v1alpha1.GroupVersion.WithKind("ClientIdentity"), Name: "orders", UID: "uid-1", Cluster: "cluster", Namespace: "web"},
			Namespace: "web", SecretName: "orders-mtls", SecretType: corev1.SecretTypeTLS,
			Data: func(current secretstore.Record) (map[string][]byte, error) {
				return pki.TLSSecretData(current.Material, nil), nil
			},
		},
		Reader: w.api, Candidates: candidates, Parse: parseLate,
	}
}

// parseLate reads a version from its certificate, as a controller does. Every certificate is for v1.
func parseLate(m credential.Material, _ time.Time) (rotation.Version, error) {
	chain, err := pki.ParseCertificates(m[credential.KeyCertificate].Reveal())
	if err != nil {
		return rotation.Version{}, err
	}
	issued := chain[0].NotBefore.Add(time.Minute)
	return rotation.Version{Fingerprint: "v1", ProposedAt: issued, CommittedAt: issued, NotAfter: chain[0].NotAfter.UTC()}, nil
}

// live reconciles as often as each outcome asks for, for at most a time, until the condition holds.
func (w *lateWorld) live(atMost time.Duration, until func(lifecycle.Outcome) bool) lifecycle.Outcome {
	out := w.reconcile()
	for end := w.issuer.clock.Now().Add(atMost); !until(out) && w.issuer.clock.Now().Before(end); out = w.reconcile() {
		wake := out.WakeAt()
		if w.restart {
			wake = w.issuer.clock.Now().Add(time.Minute) // a process that crashes in a loop
		}
		w.issuer.clock.SetTime(wake)
	}
	return out
}

func shows(seq int64) func(lifecycle.Outcome) bool {
	return func(out lifecycle.Outcome) bool {
		current := out.Snapshot.Ledger.Current
		return current != nil && current.Seq == seq && out.Snapshot.Target == rotation.TargetShowsCurrent
	}
}

func (w *lateWorld) wantNoCandidate(t *testing.T) {
	t.Helper()
	var secrets corev1.SecretList
	if err := w.api.List(background, &secrets); err != nil {
		t.Fatal(err)
	}
	if len(secrets.Items) != 1 {
		t.Errorf("%d Secrets exist, want the user's alone", len(secrets.Items))
	}
}

func TestAnIssuerThatAnswersLaterGetsTheSameRequest(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"one process": false, "a process that restarts before each reconcile": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLateWorld(t, credential.Accepted)
			w.restart = restart
			for seq := int64(1); seq <= 2; seq++ {
				out := w.live(time.Hour, shows(seq))
				if !shows(seq)(out) {
					t.Fatalf("version %d was never issued: %v; requests and how often each was made: %v", seq, out.Err, w.issuer.asked)
				}
				if len(w.issuer.asked) != int(seq) || w.issuer.issued != int(seq) {
					t.Errorf("for %d versions the issuer got %d requests and issued %d certificates", seq, len(w.issuer.asked), w.issuer.issued)
				}
				w.wantNoCandidate(t)
				w.rotate = "again"
			}
		})
	}
}

func TestAnEndpointThatIsUnknownForADayCostsOneCandidate(t *testing.T) {
	t.Parallel()
	for name, restart := range map[string]bool{"one process": false, "a process that restarts before each reconcile": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLateWorld(t, credential.Unknown)
			w.restart = restart
			out := w.live(24*time.Hour, shows(1))
			if pending := out.Snapshot.Ledger.Pending; pending == nil || pending.Seq != 1 || pending.Stage != rotation.Staged {
				t.Fatalf("after a day the candidate is %+v, want version 1, Staged: %v", pending, out.Err)
			}
			if len(w.issuer.asked) != 1 || w.issuer.issued != 1 {
				t.Errorf("a day of an endpoint that does not answer: %d requests, %d certificates, want one each", len(w.issuer.asked), w.issuer.issued)
			}
			w.issuer.answer = credential.Accepted
			if out = w.live(2*time.Hour, shows(1)); !shows(1)(out) || w.issuer.issued != 1 {
				t.Errorf("the candidate was not published when the endpoint answered: %v", out.Err)
			}
			w.wantNoCandidate(t)
		})
	}
}

func showsAny(out lifecycle.Outcome) bool {
	current := out.Snapshot.Ledger.Current
	return current != nil && out.Snapshot.Target == rotation.TargetShowsCurrent
}

// A candidate that can never be published must not block its identity, and a broken issuer must not get a request each minute.
func TestACandidateThatIsRefusedPermanentlyIsFollowedByAnotherOne(t *testing.T) {
	t.Parallel()
	for name, breaks := range map[string]func(issuer *lateIssuer, broken bool){
		"the issuer denies every request": func(i *lateIssuer, broken bool) { i.denies = broken },
		"every certificate has a defect": func(i *lateIssuer, broken bool) {
			i.answer, i.defect = credential.Accepted, nil
			if broken {
				i.answer, i.defect = credential.Rejected, fault.Permanent(fault.CertificateInvalid, errors.New("it has wrong usages"))
			}
		},
		"every certificate has expired when it arrives": func(i *lateIssuer, broken bool) {
			i.behind = 0
			if broken {
				i.behind = 2000 * time.Hour
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLateWorld(t, credential.Accepted)
			breaks(w.issuer, true)
			reported := false
			w.live(24*time.Hour, func(out lifecycle.Outcome) bool {
				reported = reported || fault.Classify(out.Err) == fault.ClassPermanent && strings.Contains(out.Err.Error(), "the next one is created no sooner than")
				return showsAny(out)
			})
			if n := len(w.issuer.asked); n < 20 || n > 32 {
				t.Errorf("in a day, a broken issuer got %d requests", n)
			}
			if !reported {
				t.Error("no error shows when the next request is made")
			}
			breaks(w.issuer, false)
			if out := w.live(2*time.Hour, showsAny); !showsAny(out) {
				t.Fatalf("a certificate of the repaired issuer is not published: %v", out.Err)
			}
			w.wantNoCandidate(t)
		})
	}
}

// The published certificate is still valid for a while: enough requests are sent in that time.
func TestABrokenIssuerIsAskedMoreOftenTowardTheDeadline(t *testing.T) {
	t.Parallel()
	w := newLateWorld(t, credential.Accepted)
	w.live(time.Hour, shows(1))
	notAfter := w.reconcile().Snapshot.Ledger.Current.NotAfter
	w.issuer.denies = true
	w.issuer.clock.SetTime(notAfter.Add(-80 * time.Hour))
	w.live(79*time.Hour, shows(2))
	early := len(w.issuer.asked)
	w.live(50*time.Minute, shows(2))
	if last := len(w.issuer.asked) - early; early > 150 || last < 5 {
		t.Errorf("a broken issuer got %d requests in 79 hours, and %d in the last hour", early, last)
	}
	w.issuer.denies = false
	if out := w.live(9*time.Minute, shows(2)); !shows(2)(out) {
		t.Errorf("ten minutes before the deadline the issuer is repaired, and nothing is published: %v", out.Err)
	}
}

// No candidate is recorded for an issuer that answers at once. It gets fewer and fewer requests, too.
func TestAnIssuerWithAWrongClockIsAskedLessAndLess(t *testing.T) {
	t.Parallel()
	w := newLateWorld(t, credential.Accepted)
	w.issuer.atOnce, w.issuer.behind = true, 2000*time.Hour
	w.live(24*time.Hour, showsAny)
	if n := len(w.issuer.asked); n < 100 || n > 320 {
		t.Errorf("in a day, it got %d requests", n)
	}
	w.issuer.behind = 0
	if out := w.live(10*time.Minute, showsAny); !showsAny(out) {
		t.Errorf("a certificate of the repaired issuer is not published: %v", out.Err)
	}
}

func TestAProcessThatRestartsAllTheTimeSendsABrokenIssuerNoFurtherRequest(t *testing.T) {
	t.Parallel()
	w := newLateWorld(t, credential.Accepted)
	w.restart, w.issuer.denies = true, true
	if w.live(24*time.Hour, shows(1)); len(w.issuer.asked) != 1 {
		t.Errorf("%d requests", len(w.issuer.asked))
	}
}

func TestACandidateThatExpiresBeforeItIsPublishedIsFollowedByAnotherOne(t *testing.T) {
	t.Parallel()
	for name, away := range map[string]bool{"the authority is ready": false, "the authority is not ready at first": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newLateWorld(t, credential.Unknown)
			w.live(time.Hour, func(out lifecycle.Outcome) bool {
				pending := out.Snapshot.Ledger.Pending
				return pending != nil && pending.Stage == rotation.Staged
			})
			w.issuer.clock.SetTime(w.issuer.clock.Now().Add(250 * time.Hour)) // the process is down
			w.issuer.answer = credential.Accepted
			w.boot()
			w.away = away
			w.live(time.Minute, showsAny)
			w.away = false
			if out := w.live(time.Hour, showsAny); !showsAny(out) || len(w.issuer.asked) != 2 {
				t.Errorf("%d requests: %v", len(w.issuer.asked), out.Err)
			}
			w.wantNoCandidate(t)
		})
	}
}

func TestARequestToRotateReplacesACandidateThatDoesNotProgress(t *testing.T) {
	t.Parallel()
	w := newLateWorld(t, credential.Accepted)
	w.live(time.Hour, shows(1))
	w.issuer.holds, w.rotate = true, "first"
	w.live(2*time.Hour, shows(2))
	if len(w.issuer.asked) != 2 {
		t.Fatalf("%d requests, want one for each version", len(w.issuer.asked))
	}
	w.boot()
	w.rotate = "second"
	w.live(2*time.Hour, shows(2))
	if len(w.issuer.asked) != 3 {
		t.Fatalf("%d requests after another request to rotate, want one more", len(w.issuer.asked))
	}
	w.issuer.holds = false
	if out := w.live(time.Hour, shows(3)); !shows(3)(out) || len(w.issuer.asked) != 3 {
		t.Errorf("%d requests: %v", len(w.issuer.asked), out.Err)
	}
}

// Without its authority, it is unknown which key signs. That does not end a candidate.
func TestAnAuthorityThatComesAndGoesGetsOneRequest(t *testing.T) {
	t.Parallel()
	w := newLateWorld(t, credential.Unknown)
	for range 20 {
		w.live(2*time.Minute, shows(1))
		w.away = !w.away
	}
	w.away, w.issuer.answer = false, credential.Accepted
	if out := w.live(time.Hour, shows(1)); !shows(1)(out) || len(w.issuer.asked) != 1 {
		t.Errorf("%d requests: %v", len(w.issuer.asked), out.Err)
	}
}

// The spec changes, and one process does not see that. It must not discard what the other one requested.
func TestAProcessWithAnOldCacheDiscardsNoCandidateOfAnother(t *testing.T) {
	t.Parallel()
	w := newLateWorld(t, credential.Accepted)
	processes := map[string]*lifecycle.Driver{"v1": w.driver}
	w.boot()
	processes["v2"] = w.driver
	reconcile := func(fingerprint string) lifecycle.Outcome {
		subject := w.subject()
		opts := w.options()
		opts.Owner.ResourceVersion = map[string]string{"v1": "100", "v2": "200"}[fingerprint]
		subject.Fingerprint, subject.Store = fingerprint, secretstore.NewPublished(opts)
		subject.Unchanged = func(context.Context) error {
			if fingerprint == "v1" && w.edited {
				return lifecycle.Conflict(errors.New("the object was changed since it was read"))
			}
			return nil
		}
		return processes[fingerprint].Drive(background, subject)
	}
	for range 10 {
		reconcile("v1")
		w.issuer.clock.SetTime(w.issuer.clock.Now().Add(time.Minute))
	}
	if w.issuer.issued != 1 {
		t.Fatalf("%d certificates before the change", w.issuer.issued)
	}
	w.edited, w.issuer.holds = true, true
	for range 10 {
		reconcile("v2")
		out := reconcile("v1")
		if !out.Conflict {
			t.Fatalf("the process with the old cache did %v: %v", out.Performed, out.Err)
		}
		w.issuer.clock.SetTime(w.issuer.clock.Now().Add(time.Minute))
	}
	if len(w.issuer.asked) != 2 {
		t.Errorf("%d requests, want one for each state of the object", len(w.issuer.asked))
	}
}
