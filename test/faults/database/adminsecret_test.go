// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/fault"
)

// damage is a damage to the admin Secret.
type damage struct {
	name   string
	do     func(*corev1.Secret)
	reason fault.Reason
	// asks reports whether rekey contacts the server at all.
	asks bool
}

var damages = []damage{
	{"is gone", nil, fault.SecretNotFound, false},
	{"has no data", func(s *corev1.Secret) { s.Data = nil }, fault.SecretInvalid, false},
	{"has an empty password", func(s *corev1.Secret) { s.Data["password"] = nil }, fault.SecretInvalid, false},
	{"has no username", func(s *corev1.Secret) { delete(s.Data, "username") }, fault.SecretInvalid, false},
	{"is no longer for rekey", func(s *corev1.Secret) { delete(s.Labels, v1alpha1.LabelAllow) }, fault.SecretNotAllowed, false},
	{"is for another server", func(s *corev1.Secret) { s.Data["host"] = []byte("elsewhere.data:5432") }, fault.HostMismatch, false},
	{"has a wrong password", func(s *corev1.Secret) { s.Data["password"] = []byte("a-wrong-password") }, fault.AdminRejected, true},
	{"has garbage for a password", func(s *corev1.Secret) { s.Data["password"] = []byte("\x00\xff\xfe'\"; DROP ROLE\n") }, fault.AdminRejected, true},
	{"names a login that does not exist", func(s *corev1.Secret) { s.Data["username"] = []byte("nobody_of_that_name") }, fault.AdminRejected, true},
}

// passwordsAtServer returns everything that could change in the logins, verifiers included.
func (s *scene) passwordsAtServer() string {
	s.t.Helper()
	conn, err := s.server.Connect(s.Ctx, "postgres")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(s.Ctx) }()
	var out string
	err = conn.QueryRow(s.Ctx, `SELECT coalesce(string_agg(concat_ws(' ', rolname, rolcanlogin, rolpassword, rolvaliduntil, shobj_description(oid, 'pg_authid')), E'\n' ORDER BY rolname), '')
FROM pg_authid WHERE starts_with(rolname::text, '`+s.base+`')`).Scan(&out)
	if err != nil {
		s.t.Fatal(err)
	}
	return out
}

// R14, R20, R23, I8, I9, I10: the admin Secret is damaged before each stage of a life. Nothing changes at the server, the
// published login keeps working, the cause is reported, the server is not contacted again and again, and once the Secret is
// repaired rekey continues.
func TestADamagedAdminSecretChangesNothing(t *testing.T) {
	for _, d := range damages {
		for i := range life {
			t.Run(fmt.Sprintf("it %s before the %s", d.name, life[i].name), func(t *testing.T) {
				t.Parallel()
				s := newScene(t, servers.Of(t, 15), impatient)
				s.playBefore(i)
				kept := s.secret("orders-admin")
				s.damageSecret(kept, d)
				before := s.passwordsAtServer()
				s.proxy.takeMoments()
				st := life[i]
				st.begin(s)
				if i == 3 {
					s.deleteWithDamage(d, kept)
					return
				}
				s.runFor(20 * time.Minute)
				if diff := cmp.Diff(before, s.passwordsAtServer()); diff != "" {
					t.Errorf("the logins changed: %s", diff)
				}
				if _, connections := s.proxy.takeMoments(); connections > 45 || !d.asks && i == 0 && connections > 0 {
					t.Errorf("%d connections in twenty minutes, want at most 45, and none if the Secret is unusable", connections)
				}
				if !s.reported(string(d.reason)) || i > 0 && s.condition(v1alpha1.ConditionReady) != "True/Published" {
					t.Errorf("the reason is not reported, or the published login is not Ready:%s", s.describe())
				}
				s.repairSecret(kept)
				s.until("the "+st.name, recovery, func() bool { return st.done(s) })
				s.checkAfter(st)
			})
		}
	}
}

func (s *scene) damageSecret(secret *corev1.Secret, d damage) {
	s.t.Helper()
	if d.do == nil {
		s.Delete(secret.DeepCopy())
		return
	}
	damaged := secret.DeepCopy()
	s.Edit(damaged, func() { d.do(damaged) })
}

func (s *scene) repairSecret(kept *corev1.Secret) {
	s.t.Helper()
	if s.secret(kept.Name) == nil {
		s.Create(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: kept.Name, Labels: kept.Labels}, Data: kept.Data})
		return
	}
	now := kept.DeepCopy()
	s.Edit(now, func() { now.Data, now.Labels = kept.Data, kept.Labels })
}

// deleteWithDamage: if the admin Secret was deleted, it does not return and the object is released immediately. If it can be
// repaired, rekey waits for a while.
func (s *scene) deleteWithDamage(d damage, kept *corev1.Secret) {
	s.t.Helper()
	if d.do == nil {
		s.until("the end of the deletion", time.Minute, s.gone)
		if !strings.Contains(strings.Join(s.Events(), "\n"), "Warning "+v1alpha1.ReasonCleanupIncomplete) {
			s.t.Error("no Event reports the remaining logins")
		}
		return
	}
	s.runFor(5 * time.Minute)
	if s.gone() {
		s.t.Fatal("the object was released, although its Secret can still be repaired")
	}
	s.repairSecret(kept)
	s.until("the end of the deletion", 6*time.Minute, s.gone)
	s.checkAfter(life[3])
}
