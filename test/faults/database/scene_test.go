// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/database/postgres"
	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/world"
)

const (
	adminPassword = "admin-password-of-the-test"
	interval      = 24 * time.Hour
	overlap       = time.Hour
	// recovery bounds the time until all is well after a fault has ended: the longest wait between two attempts, and a few
	// reconciles.
	recovery = 65 * time.Minute
)

// impatient has short timeouts, so that hanging calls do not delay a test. A connection over TLS takes milliseconds.
var impatient = postgres.Options{ConnectTimeout: time.Second, CallTimeout: 2 * time.Second}

// scene is one credential, one rekey process, and a proxy between it and a server.
type scene struct {
	*world.World
	t          *testing.T
	server     *pgtest.Server // the server that is asked whether a login works
	proxy      *proxy
	process    *world.Process
	base       string
	admin      string
	owner      string
	database   *v1alpha1.DatabaseServer
	credential *v1alpha1.DatabaseCredential
	// passwords that were published, each once, in order.
	passwords []string
	// down is true while all logins fail.
	down bool
	// after, if set, is called after each reconcile.
	after func()
}

// newScene creates everything except the server object and the credential.
func newScene(t *testing.T, server *pgtest.Server, options postgres.Options) *scene {
	t.Helper()
	s := &scene{World: world.New(t, postgres.New(options)), t: t, server: server, proxy: newProxy(t, server)}
	s.restart()
	s.base = strings.ReplaceAll(s.Namespace, "-", "_")
	s.admin, s.owner = s.base+"_admin", s.base+"_owner"
	if err := server.CreateAdmin(t.Context(), s.admin, adminPassword, s.owner); err != nil {
		t.Fatal(err)
	}
	s.Create(
		fixture.Policy(func(p *v1alpha1.RotationPolicy) { p.Spec.Overlap.Minimum = fixture.Duration(overlap) }),
		fixture.AdminSecret(func(o *corev1.Secret) {
			o.StringData = map[string]string{"username": s.admin, "password": adminPassword, "host": s.proxy.address()}
		}),
		&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "orders-ca"}, Data: map[string]string{"ca.crt": string(server.Authority.PEM)}},
	)
	s.database = fixture.Server(func(o *v1alpha1.DatabaseServer) {
		o.Spec.Address = s.proxy.address()
		o.Spec.TLS = fixture.Verified("orders-ca")
		fixture.Allow(o, s.base+"_*", s.owner)
	})
	s.credential = fixture.Credential("orders", func(o *v1alpha1.DatabaseCredential) {
		o.Spec.DeletionPolicy = v1alpha1.DeletionDelete
		fixture.SetLogin(o, "postgres", s.base+"_app", s.owner)
	})
	return s
}

// restart discards all state of the process.
func (s *scene) restart() { s.process = s.Start("rekey", world.Options{}) }

// sql runs statements as the superuser, without the proxy.
func (s *scene) sql(statements ...string) {
	s.t.Helper()
	if err := s.server.Exec(s.Ctx, "postgres", statements...); err != nil {
		s.t.Fatal(err)
	}
}

// reconcile reconciles the credential once, and checks the result.
func (s *scene) reconcile() ctrl.Result {
	s.t.Helper()
	result, err := s.process.Reconcile(s.credential)
	if err != nil {
		s.t.Fatalf("a reconcile failed: %v", err)
	}
	if !s.gone() {
		s.Get(s.credential)
		s.checkStatus()
	}
	s.checkPublished()
	return result
}

// gone reports whether the credential is gone.
func (s *scene) gone() bool {
	s.t.Helper()
	err := s.Client.Get(s.Ctx, client.ObjectKeyFromObject(s.credential), &v1alpha1.DatabaseCredential{})
	if err != nil && !apierrors.IsNotFound(err) {
		s.t.Fatal(err)
	}
	return err != nil
}

// until reconciles as requested until holds returns true, at most for that long by the world's clock.
func (s *scene) until(what string, within time.Duration, holds func() bool) {
	s.t.Helper()
	started := s.Clock.Now()
	for {
		result := s.reconcile()
		if s.after != nil {
			s.after()
		}
		if holds() {
			return
		}
		if took := s.Clock.Now().Sub(started); took > within {
			s.t.Fatalf("%s did not happen within %s:%s", what, within, s.describe())
		}
		s.Step(max(result.RequeueAfter, 100*time.Millisecond))
	}
}

// runFor reconciles as requested, for that long by the world's clock.
func (s *scene) runFor(long time.Duration) {
	s.t.Helper()
	for end := s.Clock.Now().Add(long); s.Clock.Now().Before(end); {
		s.Step(max(s.reconcile().RequeueAfter, 100*time.Millisecond))
	}
}

func (s *scene) describe() string {
	out := []string{""}
	for _, c := range s.credential.Status.Conditions {
		out = append(out, fmt.Sprintf("  %s=%s %s: %s", c.Type, c.Status, c.Reason, c.Message))
	}
	for _, r := range s.roles() {
		out = append(out, fmt.Sprintf("  role %+v", r))
	}
	l := s.ledger()
	for name, r := range map[string]*secretstore.Record{"pending": l.Pending, "current": l.Current, "previous": l.Previous} {
		if r != nil {
			out = append(out, fmt.Sprintf("  %s: %d in slot %s, %s", name, r.Seq, r.Slot, r.Stage))
		}
	}
	seen, connections := s.proxy.takeMoments()
	out = append(out, fmt.Sprintf("  the last of %d moments on %d connections:", len(seen), connections))
	for _, m := range seen[max(0, len(seen)-25):] {
		out = append(out, "    "+m.String())
	}
	return strings.Join(out, "\n")
}

// secret returns a Secret of the namespace, or nil if it does not exist.
func (s *scene) secret(name string) *corev1.Secret {
	s.t.Helper()
	out := &corev1.Secret{}
	err := s.Client.Get(s.Ctx, client.ObjectKey{Namespace: s.Namespace, Name: name}, out)
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

func (s *scene) ledger() secretstore.Ledger {
	s.t.Helper()
	secret := s.secret(secretstore.LedgerName("DatabaseCredential", s.credential.Name))
	if secret == nil {
		return secretstore.Ledger{}
	}
	ledger, err := secretstore.DecodeLedger(secret.Data)
	if err != nil {
		s.t.Fatal(err)
	}
	return ledger
}

// login logs in directly at the server, like an application.
func (s *scene) login(username, password string) error {
	s.t.Helper()
	config, err := pgx.ParseConfig(fmt.Sprintf("host=%s port=%d user=%s dbname=postgres sslmode=require application_name=app connect_timeout=10", s.server.Host, s.server.Port, username))
	if err != nil {
		s.t.Fatal(err)
	}
	config.Password = password
	conn, err := pgx.ConnectConfig(s.Ctx, config)
	if err != nil {
		return fmt.Errorf("logging in as %s: %w", username, err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(s.Ctx)) }()
	var acts string
	if err := conn.QueryRow(s.Ctx, "SELECT current_user::text").Scan(&acts); err != nil {
		return fmt.Errorf("querying the user of %s: %w", username, err)
	}
	if acts != s.owner {
		return fmt.Errorf("%s acts as %s instead of as the owner", username, acts)
	}
	return nil
}

func (s *scene) works(secret *corev1.Secret) error {
	s.t.Helper()
	return s.login(string(secret.Data["username"]), string(secret.Data["password"]))
}

// checkPublished: the published login works, whatever else is wrong (I1).
func (s *scene) checkPublished() {
	s.t.Helper()
	secret := s.secret("orders-db")
	if secret == nil {
		return
	}
	if password := string(secret.Data["password"]); !slices.Contains(s.passwords, password) {
		s.passwords = append(s.passwords, password)
	}
	if s.down {
		return
	}
	if err := s.works(secret); err != nil && !s.deleting() {
		s.t.Fatalf("the published login does not work: %v%s", err, s.describe())
	}
}

func (s *scene) deleting() bool { return !s.credential.DeletionTimestamp.IsZero() || s.gone() }

// checkStatus must hold after every reconcile, whatever is wrong.
func (s *scene) checkStatus() {
	s.t.Helper()
	conditions := s.credential.Status.Conditions
	if meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionStalled) && meta.IsStatusConditionTrue(conditions, v1alpha1.ConditionReconciling) {
		s.t.Errorf("both Stalled and Reconciling:%s", s.describe())
	}
	for _, c := range conditions {
		if c.Message == "" || strings.ContainsAny(c.Message, "\n\r") || strings.Contains(c.Message, "%!") {
			s.t.Errorf("the message of %s is not one line: %q", c.Type, c.Message)
		}
		for _, password := range append([]string{adminPassword}, s.passwords...) {
			if strings.Contains(c.Message, password) {
				s.t.Errorf("%s shows a password", c.Type)
			}
		}
	}
}

func (s *scene) condition(kind string) string {
	if c := meta.FindStatusCondition(s.credential.Status.Conditions, kind); c != nil {
		return string(c.Status) + "/" + c.Reason
	}
	return ""
}

// reported reports whether some condition contains all of the words.
func (s *scene) reported(words ...string) bool {
	return slices.ContainsFunc(s.credential.Status.Conditions, func(c metav1.Condition) bool {
		for _, word := range words {
			if !strings.Contains(c.Reason+" "+c.Message, word) {
				return false
			}
		}
		return true
	})
}

// role is a login at the server.
type role struct {
	Name, Comment string
	CanLogin      bool
}

func (s *scene) roles() []role {
	s.t.Helper()
	conn, err := s.server.Connect(s.Ctx, "postgres")
	if err != nil {
		return nil // it is down; a caller that needs the roles fails
	}
	defer func() { _ = conn.Close(s.Ctx) }()
	rows, err := conn.Query(s.Ctx, `SELECT rolname::text, coalesce(shobj_description(oid, 'pg_authid'), ''), rolcanlogin FROM pg_roles
WHERE starts_with(rolname::text, '`+s.base+`_app') ORDER BY 1`)
	if err != nil {
		s.t.Fatal(err)
	}
	out, err := pgx.CollectRows(rows, pgx.RowToStructByPos[role])
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

var markForm = regexp.MustCompile(`^rekey (\S+) seq=(\d+)( retired)?$`)

// checkKnown: the ledger records every open login by its version, except the given ones (I2).
func (s *scene) checkKnown(but ...string) {
	s.t.Helper()
	l := s.ledger()
	for _, r := range s.roles() {
		if !r.CanLogin || slices.Contains(but, r.Name) {
			continue
		}
		mark := markForm.FindStringSubmatch(r.Comment)
		known := false
		for _, record := range []*secretstore.Record{l.Pending, l.Current, l.Previous} {
			known = known || record != nil && mark != nil && s.credential.Spec.Username+"_"+record.Slot == r.Name && strconv.FormatInt(record.Seq, 10) == mark[2]
		}
		if !known {
			s.t.Errorf("login %s is open, and no record lists it:%s", r.Name, s.describe())
		}
	}
}

// These are the stages of a credential's life.
type stage struct {
	name  string
	begin func(*scene)
	done  func(*scene) bool
	// revision that is published afterwards; 0 for none.
	revision int64
}

var life = []stage{
	{"first issue", func(s *scene) { s.Create(s.database, s.credential) }, func(s *scene) bool {
		return s.condition(v1alpha1.ConditionReady) == "True/Published" && s.quiet()
	}, 1},
	{"rotation", func(s *scene) { s.Step(interval + time.Hour) }, func(s *scene) bool {
		return s.credential.Status.Revision >= 2 && s.credential.Status.Previous != nil && s.quiet()
	}, 2},
	{"retirement", func(s *scene) { s.Step(overlap + time.Minute) }, func(s *scene) bool {
		return s.ledger().Previous == nil && s.credential.Status.Previous == nil && s.quiet()
	}, 2},
	{"deletion", func(s *scene) {
		// The API server sets the deletion time, and the time limit of a deletion counts from there.
		s.Clock.SetTime(time.Now().UTC())
		s.Delete(s.credential)
		s.Get(s.credential)
	}, (*scene).gone, 0},
}

// quiet reports whether nothing is wrong and nothing is in progress.
func (s *scene) quiet() bool {
	return s.ledger().Pending == nil && s.condition(v1alpha1.ConditionReady) == "True/Published" && s.condition(v1alpha1.ConditionVerified) == "True/LoggedIn" &&
		s.condition(v1alpha1.ConditionStalled) == "" && s.condition(v1alpha1.ConditionReconciling) == "" && s.credential.Status.ObservedGeneration == s.credential.Generation &&
		s.credential.Status.NextAttemptTime == nil && slices.Contains([]string{"", "True/Overlapping"}, s.condition(v1alpha1.ConditionRotating))
}

// checkAfter must hold at the end of a stage: exactly the due versions were created, and nothing is left over.
func (s *scene) checkAfter(st stage) {
	s.t.Helper()
	if st.revision == 0 {
		if left := s.roles(); len(left) > 0 {
			s.t.Errorf("logins still exist after the deletion: %+v", left)
		}
		if s.secret("orders-db") != nil || s.secret(secretstore.LedgerName("DatabaseCredential", s.credential.Name)) != nil {
			s.t.Error("a Secret still exists after the deletion")
		}
		return
	}
	if got := s.credential.Status.Revision; got != st.revision || int64(len(s.passwords)) != st.revision || s.ledger().LastSeq != st.revision {
		s.t.Errorf("after the %s: revision %d, %d passwords published, %d versions created; want %d of each:%s", st.name, got, len(s.passwords), s.ledger().LastSeq, st.revision, s.describe())
	}
	s.checkKnown()
	if secret := s.secret("orders-db"); secret == nil {
		s.t.Errorf("after the %s nothing is published", st.name)
	}
}
