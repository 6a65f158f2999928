// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/issuer"
	"github.com/rekey/rekey/internal/rotation"
)

const year = 8766 * time.Hour

// TestEveryAuthorityWarnsThenAlarms checks every maxLifetime, including one that users write for "no limit", with every
// lifetime that a certificate can have, including one of more years than a Duration holds.
func TestEveryAuthorityWarnsThenAlarms(t *testing.T) {
	t.Parallel()
	born := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	lives := map[string][2]time.Time{"1950 to 2999": {time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC)},
		"to 9999": {born, time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)}}
	for _, life := range []time.Duration{time.Hour, 24 * time.Hour, year, 5 * year, 20 * year, 100 * year, math.MaxInt64} {
		lives[life.String()] = [2]time.Time{born, born.Add(life)}
	}
	longest := []time.Duration{time.Minute, time.Hour, 720 * time.Hour, year, 5 * year, 256_204 * time.Hour, 256_205 * time.Hour, 854_015 * time.Hour, 854_016 * time.Hour, 876_000 * time.Hour, math.MaxInt64}
	tried := 0
	for name, life := range lives {
		for _, most := range longest {
			tried++
			spec := &v1alpha1.AuthoritySpec{Constraints: v1alpha1.Constraints{MaxLifetime: v1alpha1.Duration{Duration: most}}}
			authority := &issuer.Authority{Info: issuer.Info{NotBefore: life[0], NotAfter: life[1]}}
			what := fmt.Sprintf("an authority that lives %s, with maxLifetime %s", name, most)
			levels := walk(t, what, spec, authority)
			if fmt.Sprint(levels) != fmt.Sprint([]rotation.Level{rotation.LevelNone, rotation.ExpiresSoon, rotation.ExpiresImminently, rotation.Expired}) {
				t.Errorf("%s, goes through the levels %q", what, levels)
			}
			var status v1alpha1.AuthorityStatus
			showAuthority(&status, spec, authority)
			if at := status.RenewalTime.Time; at.Before(authority.NotBefore) || at.After(authority.NotAfter) {
				t.Errorf("%s, must be replaced before %s, outside its lifetime", what, at)
			}
		}
	}
	t.Logf("%d pairs of a lifetime and a maxLifetime", tried)
}

// walk follows the levels from one relevant instant to the next.
func walk(t *testing.T, what string, spec *v1alpha1.AuthoritySpec, authority *issuer.Authority) []rotation.Level {
	t.Helper()
	now := authority.NotBefore
	health := authorityHealth(now, spec, authority)
	levels := []rotation.Level{health.Level}
	if half := now.Add(authority.NotAfter.Sub(now) / 2); health.WarnAt.Before(half) {
		t.Errorf("%s, warns at %s, when less than half of its lifetime is over", what, health.WarnAt)
	}
	for range 10 {
		if health.NextLevelAt.IsZero() {
			return levels
		}
		now = health.NextLevelAt
		health = authorityHealth(now, spec, authority)
		if health.Level != levels[len(levels)-1] {
			levels = append(levels, health.Level)
		}
	}
	t.Errorf("%s, has another level after %q", what, levels)
	return levels
}

// TestNoTimeOfAStatusIsRefused checks every time that a certificate, or a wrong clock, can lead to.
func TestNoTimeOfAStatusIsRefused(t *testing.T) {
	t.Parallel()
	for _, at := range []time.Time{{}, time.Date(-99, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(1, 1, 1, 0, 0, 0, 1, time.UTC), time.Date(1950, 1, 1, 0, 0, 0, 0, time.UTC),
		time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(10099, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 0, time.FixedZone("", -14*3600))} {
		ref := timeRef(at)
		if ref == nil {
			continue
		}
		text := ref.Format(time.RFC3339)
		if back, err := time.Parse(time.RFC3339, text); err != nil || !back.Equal(ref.Time) {
			t.Errorf("%s is shown as %s, which is read as %s (%v)", at, text, back, err)
		}
	}
}

// TestARenewalThatIsHeldBackIsReported covers a policy that requests certificates more often than a tenth of their lifetime allows.
func TestARenewalThatIsHeldBackIsReported(t *testing.T) {
	w := newWorld(t)
	policy, identity := aPolicy(), aClientIdentity()
	policy.Spec.Interval, policy.Spec.Overlap.Minimum, policy.Spec.MaxAge = duration(30*time.Second), duration(time.Second), nil
	identity.Spec.RotationPolicyRef = &v1alpha1.LocalReference{Name: v1alpha1.ObjectName(policy.Name)}
	ready(w, anAuthority(), policy, identity)
	first := identity.Status.SerialNumber
	message := func() string {
		return meta.FindStatusCondition(identity.Status.Conditions, v1alpha1.ConditionReady).Message
	}
	if !strings.Contains(message(), "later than") || !strings.Contains(message(), "a tenth of its lifetime") {
		t.Errorf("no message says that renewals are held back: %s", message())
	}
	for range 10 {
		w.step(13 * time.Minute)
		w.settle(identity, 5)
		if identity.Status.SerialNumber != first {
			t.Fatalf("it is renewed at %s: %s", w.clock.Now(), message())
		}
	}
	w.step(15 * time.Minute) // 2h25m: a tenth of 24h is over.
	w.settle(identity, 5)
	if identity.Status.SerialNumber == first {
		t.Errorf("it is not renewed after a tenth of its lifetime: %s", message())
	}
	w.edit(policy, func() { policy.Spec.Interval = duration(12 * time.Hour) })
	w.settle(identity, 5)
	if strings.Contains(message(), "later than") {
		t.Errorf("nothing is held back, but that is still reported: %s", message())
	}
}
