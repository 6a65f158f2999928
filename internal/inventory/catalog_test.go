// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package inventory

import (
	"crypto/sha256"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rekey/rekey/internal/rotation"
)

const day = 24 * time.Hour

// limits of these tests.
var limits = Limits{WarnBefore: 30 * day, AlarmBefore: 7 * day}

// made is a certificate that was issued 365 days before its expiry.
func made(name string, notAfter time.Time) Item {
	return Item{Key: "tls.crt", Certificate: Certificate{
		SHA256: sha256.Sum256([]byte(name)), Subject: "CN=" + name, Issuer: "CN=an issuer", NotBefore: notAfter.Add(-365 * day), NotAfter: notAfter,
	}}
}

func secret(name string) Place { return Place{"Secret", "shop", name} }

func TestLevelsComeInOrderAndOnlyWhenTheyMatter(t *testing.T) {
	notAfter := start.Add(365 * day)
	for name, tc := range map[string]struct {
		lifetime, left time.Duration
		want           rotation.Level
		wantNext       time.Duration
	}{
		"long before":                           {365 * day, 31 * day, rotation.LevelNone, 30 * day},
		"the warning":                           {365 * day, 30 * day, rotation.ExpiresSoon, 7 * day},
		"just before the alarm":                 {365 * day, 7*day + 1, rotation.ExpiresSoon, 7 * day},
		"the alarm":                             {365 * day, 7 * day, rotation.ExpiresImminently, 0},
		"the end":                               {365 * day, 0, rotation.Expired, -1},
		"renewed when a third is left":          {90 * day, 30 * day, rotation.LevelNone, 90 * day / 4},
		"not renewed":                           {90 * day, 22 * day, rotation.ExpiresSoon, 5*day + 6*time.Hour},
		"a lifetime of a day":                   {day, 7 * time.Hour, rotation.LevelNone, 6 * time.Hour},
		"a lifetime of a day, not renewed":      {day, 5 * time.Hour, rotation.ExpiresSoon, day * 7 / 120},
		"a validity that ends before it starts": {-day, time.Hour, rotation.LevelNone, 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := limits.Health(Certificate{NotBefore: notAfter.Add(-tc.lifetime), NotAfter: notAfter}, notAfter.Add(-tc.left))
			if got.Level != tc.want {
				t.Errorf("level %q, want %q", got.Level, tc.want)
			}
			wantNext := notAfter.Add(-tc.wantNext)
			if tc.wantNext < 0 {
				wantNext = time.Time{}
			}
			if got.NextLevelAt.Sub(wantNext).Abs() > time.Second {
				t.Errorf("next level at %s, want %s", got.NextLevelAt, wantNext)
			}
		})
	}
}

func TestACertificateInManyPlacesCountsOnce(t *testing.T) {
	c := NewCatalog()
	c.Begin()
	for n := range 5 {
		c.Put(secret(fmt.Sprint("s", n)), "1", Found{Items: []Item{made("root", start.Add(day))}})
	}
	got := c.Summarize(start, limits, nil)
	if got.Observed != 1 || got.ExpiringSoon != 1 || len(got.Soonest) != 1 || got.Soonest[0].Others != 4 || got.Soonest[0].Place != secret("s0") {
		t.Errorf("summary %+v", got)
	}
	ignored := c.Summarize(start, limits, func(sum [32]byte) bool { return sum == sha256.Sum256([]byte("root")) })
	if ignored.Observed != 0 || ignored.Worst != nil {
		t.Errorf("a certificate that is ignored counts: %+v", ignored)
	}
}

func TestALookForgetsWhatNoLongerExistsAndKeepsWhatItDidNotReach(t *testing.T) {
	c := NewCatalog()
	c.Begin()
	for n := range 3 {
		c.Put(secret(fmt.Sprint("s", n)), "1", Found{Items: []Item{made(fmt.Sprint("c", n), start.Add(100*day))}})
	}
	c.End("Secret")
	c.Begin()
	if !c.Has(secret("s0"), "1") || c.Has(secret("s1"), "2") {
		t.Error("an unchanged object is not known, or a changed one is")
	}
	if got := c.Summarize(start, limits, nil).Observed; got != 3 {
		t.Errorf("%d certificates before the look ends, want 3", got)
	}
	c.End("Secret")
	if got := c.Summarize(start, limits, nil).Observed; got != 1 || c.Objects() != 1 {
		t.Errorf("%d certificates after the look, want 1", got)
	}
}

func TestWhatExpiredLongAgoAndWhatIsRenewedAllTheTimeHideNothing(t *testing.T) {
	c := NewCatalog()
	c.Begin()
	for n := range 50 {
		c.Put(secret(fmt.Sprint("old", n)), "1", Found{Items: []Item{made(fmt.Sprint("old", n), start.Add(-time.Duration(n+1)*day))}})
		short := made(fmt.Sprint("short", n), start.Add(20*time.Hour))
		short.NotBefore = start.Add(-4 * time.Hour)
		c.Put(secret(fmt.Sprint("short", n)), "1", Found{Items: []Item{short}})
	}
	c.Put(secret("hand-made"), "1", Found{Items: []Item{made("hand-made", start.Add(20*day))}})
	got := c.Summarize(start, limits, nil)
	if got.Observed != 101 || got.Expired != 50 || got.ExpiringSoon != 1 || len(got.Soonest) != MaxShown {
		t.Fatalf("summary: %d, %d, %d, %d shown", got.Observed, got.Expired, got.ExpiringSoon, len(got.Soonest))
	}
	last := got.Soonest[MaxShown-1]
	if last.Subject != "CN=hand-made" || last.Level != rotation.ExpiresSoon {
		t.Errorf("the certificate that is not renewed is not shown: %+v", last)
	}
	if got.Worst.Subject != "CN=old0" {
		t.Errorf("worst %s, want the one that expired last", got.Worst.Subject)
	}
	if want := start.Add(20 * time.Hour); !got.NextNotAfter.Equal(want) {
		t.Errorf("the next expiry is at %s, want %s", got.NextNotAfter, want)
	}
}

func TestTheWorstCertificateIsTheOneToActOn(t *testing.T) {
	for name, tc := range map[string]struct {
		left []time.Duration
		want string
	}{
		"none":                      {left: []time.Duration{100 * day}},
		"the nearest":               {left: []time.Duration{20 * day, 10 * day}, want: "CN=1"},
		"an alarm before a warning": {left: []time.Duration{20 * day, 3 * day}, want: "CN=1"},
		"the last one that expired": {left: []time.Duration{-day, -9 * day, 3 * day}, want: "CN=0"},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewCatalog()
			c.Begin()
			for n, left := range tc.left {
				c.Put(secret(fmt.Sprint(n)), "1", Found{Items: []Item{made(fmt.Sprint(n), start.Add(left))}})
			}
			got := ""
			if worst := c.Summarize(start, limits, nil).Worst; worst != nil {
				got = worst.Subject
			}
			if got != tc.want {
				t.Errorf("worst %q, want %q", got, tc.want)
			}
		})
	}
}

func TestUnreadableValuesAreCountedAndNamed(t *testing.T) {
	c := NewCatalog()
	c.Begin()
	for n := range 30 {
		c.Put(secret(fmt.Sprintf("s%02d", n)), "1", Found{Unreadable: []Unreadable{{"k.p12", "is encrypted"}}})
	}
	got := c.Summarize(start, limits, nil)
	want := UnreadableEntry{Unreadable{"k.p12", "is encrypted"}, secret("s00")}
	if got.Unread != 30 || len(got.Unreadable) != MaxShown {
		t.Fatalf("%d unreadable, %d named", got.Unread, len(got.Unreadable))
	}
	if diff := cmp.Diff(want, got.Unreadable[0]); diff != "" {
		t.Errorf("the first (-want +got):\n%s", diff)
	}
}

func TestAFullCatalogReportsIt(t *testing.T) {
	c := NewCatalog()
	c.Begin()
	c.items = maxCatalog
	c.Put(secret("one"), "1", Found{Items: []Item{made("one", start)}})
	if got := c.Summarize(start, limits, nil); got.Observed != 0 || got.Unread != 1 {
		t.Errorf("summary %+v", got)
	}
	if !c.Has(secret("one"), "1") {
		t.Error("an object is read again while there is no room for it")
	}
	c.items--
	if c.Has(secret("one"), "1") {
		t.Error("an object is not read again now that there is room for it")
	}
}

// A Secret with one certificate costs less than 600 bytes, whatever is in it.
func TestTheMemoryOfACatalogGrowsByALittleForEachSecret(t *testing.T) {
	const secrets = 20_000
	before := heap()
	c := NewCatalog()
	c.Begin()
	for n := range secrets {
		name := fmt.Sprintf("payments-example-com-tls-%06d", n)
		c.Put(secret(name), fmt.Sprint(1_000_000+n), Found{Items: []Item{made(name+".payments.example.com", start.Add(time.Duration(n)*time.Hour))}})
	}
	each := int64(heap()-before) / secrets
	t.Logf("%d bytes for each Secret", each)
	if each > 600 {
		t.Errorf("a Secret costs %d bytes, want at most 600", each)
	}
	runtime.KeepAlive(c)
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
