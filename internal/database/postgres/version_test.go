// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package postgres

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/internal/fault"
)

func TestEachVersionIsServedNotedOrRefused(t *testing.T) {
	const served, noted, refused = "served", "noted", "refused"
	for number, want := range map[int]string{
		90624: refused, 130017: refused, 130018: refused, 140014: refused, 140015: refused,
		150000: noted, 150008: noted, 150009: refused, 150010: served, 150018: served,
		160000: noted, 160004: noted, 160005: refused, 160006: served, 160010: served,
		170000: noted, 170001: refused, 170002: served, 170006: served,
		180000: served, 180004: served, 190000: served,
	} {
		got := served
		if untested(number) != "" {
			got = noted
		}
		if err := judgeVersion(number); err != nil {
			got = refused
			wantFault(t, err, fault.ClassPermanent, fault.ServerUnsupported, "PostgreSQL", "or later")
		}
		if got != want {
			t.Errorf("%d is %s, want %s", number, got, want)
		}
	}
	// The page names each of them.
	page, err := os.ReadFile("../../../docs/databaseserver.md")
	if err != nil {
		t.Fatal(err)
	}
	for major, known := range minors {
		for _, minor := range []int{known.broken, known.promised} {
			if text := fmt.Sprintf("%d.%d", major, minor); !strings.Contains(string(page), text) {
				t.Errorf("docs/databaseserver.md does not mention %s", text)
			}
		}
	}
}

// A real server's version, treated as if it were in the table.
func TestAServerOfABrokenMinorIsUnsupportedAndOneOfAnOldMinorIsNoted(t *testing.T) {
	for _, major := range pgtest.Versions {
		l := labOf(t, major)
		report, err := testEngine().Check(t.Context(), encoded(l.server()))
		if err != nil {
			t.Fatal(err)
		}
		_, text, _ := strings.Cut(report.Version, ".")
		minor, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("the version %q has no minor", report.Version)
		}
		kept, listed := minors[major]
		restore := func() {
			if delete(minors, major); listed {
				minors[major] = kept
			}
		}
		e := newEstate(t, l, false)
		minors[major] = struct{ broken, promised int }{minor, minor + 1}
		_, err = testEngine().Check(t.Context(), encoded(l.server()))
		wantFault(t, err, fault.ClassPermanent, fault.ServerUnsupported, report.Version, fmt.Sprintf("%d.%d or later", major, minor+1))
		wantFault(t, e.Preflight(t.Context(), testRef(1, "a")), fault.ClassPermanent, fault.ServerUnsupported, report.Version)
		minors[major] = struct{ broken, promised int }{minor + 1, minor + 2}
		report, err = testEngine().Check(t.Context(), encoded(l.server()))
		restore()
		if err != nil || !slices.ContainsFunc(report.Notes, func(note string) bool { return strings.Contains(note, "is not tested with rekey") }) {
			t.Errorf("an old minor: %v, %v; want a note", report.Notes, err)
		}
	}
}
