// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package rotation

import "time"

// Level is how near the current version's deadline is. The values are the reasons of the ExpiringSoon condition.
type Level string

// The levels, in order.
const (
	LevelNone         Level = ""
	ExpiresSoon       Level = "ExpiresSoon"
	ExpiresImminently Level = "ExpiresImminently"
	Expired           Level = "Expired"
)

const (
	// warnShare is the maximum share of the time between renewal and deadline that a warning covers: a rotation that
	// succeeds immediately, or after a few attempts, causes no warning.
	warnShare = 0.7
	// The alarm gets at least 1/alarmShare of a shortened warning, if the policy asks for as much: next to 876000h, which
	// users write for "as early as possible", four hours would shrink to nothing.
	alarmShare = 6
	// The margin after Due before a rotation counts as overdue: a tenth of the version's age, within these bounds.
	overdueShare = 10
	leastOverdue = 30 * time.Second
	mostOverdue  = time.Hour
)

// Health is what the clock says about the current version. It does not depend on what the planner decides: a suspended or
// blocked credential expires anyway.
type Health struct {
	// Level is the current level.
	Level Level
	// Deadline is NotAfter, or CommittedAt+MaxAge for a version that does not expire on its own; zero for none.
	Deadline time.Time
	// WarnAt and AlarmAt are when the levels below Expired start; zero if there is no deadline.
	WarnAt, AlarmAt time.Time
	// Due is when the version is to be replaced; zero for never.
	Due time.Time
	// Overdue is true if Due has passed by a margin and the version is still the current one.
	Overdue bool
	// NextLevelAt is the next time at which Level or Overdue changes by the clock alone; zero for never.
	NextLevelAt time.Time
}

// HealthOf returns the health of the current version.
func HealthOf(o Observation) Health {
	h := Health{Due: Due(o), Deadline: deadline(o)}
	if o.Current == nil {
		return h
	}
	overdueAt := overdueFrom(o, h.Due)
	h.Overdue = !overdueAt.IsZero() && !o.Now.Before(overdueAt)
	if !h.Deadline.IsZero() {
		warn, alarm := leads(o, h.Deadline)
		h.WarnAt, h.AlarmAt = h.Deadline.Add(-warn), h.Deadline.Add(-alarm)
		h.Level = levelAt(o.Now, h)
	}
	for _, at := range []time.Time{h.WarnAt, h.AlarmAt, h.Deadline, overdueAt} {
		if at.After(o.Now) {
			h.NextLevelAt = earliest(h.NextLevelAt, at)
		}
	}
	return h
}

func levelAt(now time.Time, h Health) Level {
	switch {
	case !now.Before(h.Deadline):
		return Expired
	case !now.Before(h.AlarmAt):
		return ExpiresImminently
	case !now.Before(h.WarnAt):
		return ExpiresSoon
	}
	return LevelNone
}

func deadline(o Observation) time.Time {
	c := o.Current
	switch {
	case c == nil:
		return time.Time{}
	case !c.NotAfter.IsZero():
		return c.NotAfter
	case o.Policy.MaxAge > 0 && !c.CommittedAt.IsZero():
		return c.CommittedAt.Add(o.Policy.MaxAge)
	}
	return time.Time{}
}

// leads returns how long before the deadline the two levels start: as the policy defines, but never before a healthy
// rotation has had its chance, with the alarm roughly in proportion to the warning.
func leads(o Observation, deadline time.Time) (warn, alarm time.Duration) {
	start := renewal(o)
	if start.IsZero() {
		start = o.Current.CommittedAt
	} else if end := overlapEnd(o); end.After(start) {
		start = end
	}
	warn, alarm = max(o.Policy.WarnBefore, 0), max(o.Policy.AlarmBefore, 0)
	if !start.IsZero() {
		room := max(deadline.Sub(start), 0)
		if most := time.Duration(warnShare * float64(room)); warn > most {
			share := time.Duration(float64(alarm) * (float64(most) / float64(warn)))
			alarm, warn = min(alarm, max(share, most/alarmShare)), most
		}
	}
	return warn, min(alarm, warn)
}

// overdueFrom returns when a rotation counts as overdue. A rotation that becomes due during an overlap waits for its end,
// and is not overdue until then.
func overdueFrom(o Observation, due time.Time) time.Time {
	if due.IsZero() {
		return time.Time{}
	}
	if end := overlapEnd(o); end.After(due) {
		due = end
	}
	margin := mostOverdue
	if !o.Current.CommittedAt.IsZero() {
		margin = due.Sub(o.Current.CommittedAt) / overdueShare
	}
	return due.Add(min(max(margin, leastOverdue), mostOverdue))
}
