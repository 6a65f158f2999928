// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"
	"time"

	"github.com/rekey/rekey/internal/rotation"
)

const (
	// MaxShown is the maximum number of certificates in Summary.Soonest, and of values in Summary.Unreadable.
	MaxShown = 20
	// leastFresh of them, if there are as many, have not expired: certificates that expired long ago must not hide the next one.
	leastFresh = 10
	// warnPart is the largest part of a certificate's lifetime that the warning covers. What renews certificates automatically does
	// so earlier (cert-manager when a third is left), and causes no warning.
	warnPart = 4
)

// Limits are how long before its expiry a certificate has the two first levels. The warning covers at most a quarter of the
// certificate's lifetime, and the alarm less in proportion.
type Limits struct{ WarnBefore, AlarmBefore time.Duration }

// Health returns the level of a certificate, with the levels of rekey's own credentials.
func (l Limits) Health(c Certificate, now time.Time) rotation.Health {
	lifetime := c.NotAfter.Sub(c.NotBefore)
	warn, alarm := l.WarnBefore, min(l.AlarmBefore, l.WarnBefore)
	if most := max(lifetime/warnPart, 0); warn > most {
		alarm = min(alarm, time.Duration(float64(alarm)*(float64(most)/float64(warn))))
		warn = most
	}
	health := rotation.Health{Deadline: c.NotAfter, WarnAt: c.NotAfter.Add(-warn), AlarmAt: c.NotAfter.Add(-alarm)}
	for _, level := range []struct {
		at    time.Time
		level rotation.Level
	}{{health.WarnAt, rotation.ExpiresSoon}, {health.AlarmAt, rotation.ExpiresImminently}, {health.Deadline, rotation.Expired}} {
		if now.Before(level.at) {
			health.NextLevelAt = level.at
			break
		}
		health.Level = level.level
	}
	return health
}

// Entry is a certificate in a Summary.
type Entry struct {
	Item
	// Place is the first of its places, in order. Others is the number of other objects that hold it.
	Place  Place
	Others int
	Level  rotation.Level
}

// UnreadableEntry is a value in a Summary that could not be read.
type UnreadableEntry struct {
	Unreadable
	Place Place
}

// Summary is what a catalog shows at one time. Every certificate counts once, in however many objects it is.
type Summary struct {
	// Observed is the number of certificates; ExpiringSoon of them have a level before Expired, Expired of them have expired.
	// Unread is the number of values that could not be read.
	Observed, ExpiringSoon, Expired, Unread int
	// Soonest are at most MaxShown certificates, by the time of their expiry: the last ones that expired, those that have a level, and
	// the next ones that will expire.
	Soonest []Entry
	// Worst is the certificate with the highest level; of several, the one whose expiry is nearest. Nil if none has a level.
	Worst *Entry
	// Unreadable are the first values that could not be read, at most MaxShown, in the order of their places.
	Unreadable []UnreadableEntry
	// NextNotAfter is when the next certificate expires, and NextLevelAt when the next one changes its level; zero for never.
	NextNotAfter, NextLevelAt time.Time
}

// Summarize returns what the catalog shows now. Certificates whose hash is ignored do not count.
func (c *Catalog) Summarize(now time.Time, limits Limits, ignored func([sha256.Size]byte) bool) Summary {
	var out Summary
	var expired, near, healthy []Entry
	for _, entry := range c.entries(ignored) {
		health := limits.Health(entry.Certificate, now)
		entry.Level = health.Level
		out.Observed++
		if at := health.NextLevelAt; !at.IsZero() && (out.NextLevelAt.IsZero() || at.Before(out.NextLevelAt)) {
			out.NextLevelAt = at
		}
		if entry.Level == rotation.Expired {
			expired = append(expired, entry)
			continue
		}
		if out.NextNotAfter.IsZero() {
			out.NextNotAfter = entry.NotAfter
		}
		if entry.Level == rotation.LevelNone {
			healthy = append(healthy, entry)
		} else {
			near = append(near, entry)
		}
	}
	out.ExpiringSoon, out.Expired = len(near), len(expired)
	out.Worst = worst(expired, near)
	// Those with a level come first: certificates that live for an hour, and are renewed, must not hide the one that is not.
	fresh := slices.Concat(near, healthy)
	fresh = fresh[:min(len(fresh), max(leastFresh, MaxShown-len(expired)))]
	out.Soonest = slices.Concat(expired[max(0, len(expired)-(MaxShown-len(fresh))):], fresh)
	slices.SortFunc(out.Soonest, compareExpiry)
	out.unread(c)
	return out
}

// worst returns the certificate with the highest level; of several, the one whose expiry is nearest. Both lists are sorted.
func worst(expired, near []Entry) *Entry {
	if len(expired) > 0 {
		return &expired[len(expired)-1]
	}
	if at := slices.IndexFunc(near, func(e Entry) bool { return e.Level == rotation.ExpiresImminently }); at >= 0 {
		return &near[at]
	}
	if len(near) > 0 {
		return &near[0]
	}
	return nil
}

func compareExpiry(a, b Entry) int {
	return cmp.Or(a.NotAfter.Compare(b.NotAfter), a.Place.Compare(b.Place), bytes.Compare(a.SHA256[:], b.SHA256[:]))
}

// entries returns every certificate once, by its expiry.
func (c *Catalog) entries(ignored func([sha256.Size]byte) bool) []Entry {
	type found struct {
		at    place
		item  item
		count int
	}
	byHash := make(map[[sha256.Size]byte]*found, len(c.objects))
	for at, object := range c.objects {
		for _, one := range object.items {
			known, ok := byHash[one.sha256]
			switch {
			case ok:
				known.count++
				if at.plain().Compare(known.at.plain()) < 0 {
					known.at, known.item = at, one
				}
			case ignored == nil || !ignored(one.sha256):
				byHash[one.sha256] = &found{at, one, 1}
			}
		}
	}
	out := make([]Entry, 0, len(byHash))
	for _, one := range byHash {
		out = append(out, Entry{Item: one.item.plain(), Place: one.at.plain(), Others: one.count - 1})
	}
	slices.SortFunc(out, compareExpiry)
	return out
}

// unread adds the values that could not be read.
func (s *Summary) unread(c *Catalog) {
	for at, object := range c.objects {
		for _, one := range object.unreadable {
			s.Unread++
			s.Unreadable = append(s.Unreadable, UnreadableEntry{one, at.plain()})
		}
	}
	slices.SortFunc(s.Unreadable, func(a, b UnreadableEntry) int {
		return cmp.Or(a.Place.Compare(b.Place), cmp.Compare(a.Key, b.Key))
	})
	s.Unreadable = s.Unreadable[:min(len(s.Unreadable), MaxShown)]
}
