// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package lifecycle

import (
	"context"
	"errors"
	"time"

	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/rotation"
)

// waits is a trouble that goes on: its reason, and the inputs that it came up with.
type waits struct {
	reason string
	inputs inputs
	since  time.Time
}

// pace is when to look again at what cannot be watched: soon where the trouble is new, ever less often while it goes on, so
// that a thousand objects which wait for something that never comes cost next to nothing.
func (m *Memory) Pace(uid, reason string, now time.Time) time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	known, ok := m.byUID[uid]
	if !ok {
		return LookAgainBroken
	}
	if known.seldom == nil {
		known.seldom = &seldom{}
	}
	age := now.Sub(known.waits.since)
	if known.waits.reason != reason || known.waits.inputs != known.inputs || age < 0 {
		known.waits, age = waits{reason: reason, inputs: known.inputs, since: now}, 0
		m.byUID[uid] = known
	}
	return min(max(age/4, LookAgainBroken), LookAgainHealthy)
}

// heals counts how often the user's Secret was written again, each time soon after the time before.
type heals struct {
	count int
	last  time.Time
}

const (
	// freeHeals are done at once: a person may edit twice.
	freeHeals = 3
	// mostHeal is the longest wait before a Secret is healed once more.
	mostHeal = 10 * time.Minute
)

// next is when the Secret may be written again.
func (h heals) next() time.Time {
	if h.count < freeHeals {
		return h.last
	}
	return h.last.Add(min(time.Second<<min(h.count-freeHeals, 20), mostHeal))
}

// calm is when the fight counts as over.
func (h heals) calm() time.Time { return h.next().Add(h.next().Sub(h.last) + 2*fightFloor) }

// at forgets a fight that is over, or that a clock has run away from.
func (h heals) at(now time.Time) heals {
	if h.last.Sub(now) > 0 || !now.Before(h.calm()) {
		return heals{}
	}
	return h
}

// again counts a version that is written once more, and holds it back where somebody else changes it each time: two who
// write the same object as fast as they can take an API server down.
func (p *pass) again() error {
	now, current := p.now(), p.snapshot.Ledger.Current
	if current.PublishedAt.IsZero() {
		return nil
	}
	h := p.memo.heals.at(now)
	if h.count >= freeHeals && now.Before(h.next()) {
		return p.fight()
	}
	p.memo.heals = heals{count: h.count + 1, last: now}
	return nil
}

// fight tells of somebody who changes the user's Secret again and again; nil where nobody does.
func (p *pass) fight() error {
	h := p.memo.heals.at(p.now())
	if h.count < freeHeals {
		return nil
	}
	until := "rekey writes it less and less often"
	if !p.Traits.Remote {
		until = "a new certificate is issued each time that the one in it is gone or damaged"
	}
	return fault.Blocked(fault.SecretConflict, errors.New("another controller or a user changes the Secret each time that rekey writes it: "+
		"find out who, with `kubectl get secret -o yaml --show-managed-fields`. Until that ends, "+until))
}

// untilIssue is how long it is until a source without a ledger may make another version; 0 or less where it may.
func (p *pass) untilIssue(now time.Time) time.Duration {
	floor := p.issueFloor(now)
	wait := floor - now.Sub(p.memo.issued)
	if p.Traits.Remote || p.memo.issued.IsZero() || wait > floor {
		return 0
	}
	return wait
}

func (p *pass) issueFloor(now time.Time) time.Duration {
	if p.memo.heals.at(now).count >= freeHeals {
		return fightFloor
	}
	return issueFloor
}

// issuedAgain notes when a certificate was published. Where this process published one before, and it was gone or damaged
// since, another one changes the Secret, which is told as for a Secret that only had to be written again.
func (p *pass) issuedAgain(now time.Time) {
	if p.out.Observation.Current == nil && !p.memo.issued.IsZero() {
		p.memo.heals = heals{count: p.memo.heals.at(now).count + 1, last: now}
	}
	p.memo.issued = now
}

// stillFighting reports a fight over the Secret until it is over, so that what is reported does not change with each turn.
func (p *pass) stillFighting() {
	if err := p.fight(); err != nil && p.out.Decision.Unmet == nil {
		p.out.Err, p.out.FailedStep, p.out.NextAttempt = err, rotation.StepPublish, p.memo.heals.calm()
	}
}

// target is what the user's Secret shows. One that lacks only what an earlier release did not record counts as current until
// recordsAt: an upgrade writes every Secret once, and not all of them in one minute.
func (p *pass) target() rotation.TargetState {
	if p.recordsAt().After(p.now()) {
		return rotation.TargetShowsCurrent
	}
	return p.snapshot.Target
}

// recordsAt is when what an earlier release did not record is added to the user's Secret and the ledger; zero where nothing
// is missing.
func (p *pass) recordsAt() time.Time {
	if !p.snapshot.LacksRecords {
		return time.Time{}
	}
	return rotation.SpreadFrom(p.memo.firstSeen, p.UID)
}

func (p *pass) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, p.stepTimeout())
}

func (p *pass) stepTimeout() time.Duration {
	if p.StepTimeout <= 0 {
		return DefaultStepTimeout
	}
	return p.StepTimeout
}
