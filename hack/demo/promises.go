// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/rekey/rekey/api/v1alpha1"
)

// promise is one row of the summary.
type promise struct {
	text, expected, seen string
	kept                 bool
}

// expiryTolerance is how far from the certificate's notAfter Ready may turn False.
const expiryTolerance = time.Second

// promises judges what was observed so far.
func (p *past) promises(now time.Time) []promise {
	all := []promise{
		p.rotated("client certificate rotated", appSecret),
		p.rotated("server certificate rotated", serverSecret),
		p.rotated("database password rotated", loginSecret),
		p.provenLogins(),
		p.followed(now),
		{"failed calls of the application", "0", fmt.Sprintf("%d of %d", p.calls.Failed, p.calls.Call), p.calls.Call > 0 && p.calls.Failed == 0},
		{"handshakes rejected by the server", "0", fmt.Sprintf("%d of %d", len(p.refusals), p.handshakes+len(p.refusals)), p.handshakes > 0 && len(p.refusals) == 0},
	}
	all = append(all, p.oldLogins()...)
	return append(all, p.levels(), p.unready(), p.healthy(), p.undisturbed())
}

func (p *past) rotated(text, secret string) promise {
	count := p.rotations(secret)
	return promise{text, fmt.Sprintf("at least %d times", wantRotations), fmt.Sprintf("%d times", count), count >= wantRotations}
}

// provenLogins: the operator logged in with every login before it published it.
func (p *past) provenLogins() promise {
	versions, count := p.versions[loginSecret], 0
	for _, v := range versions {
		// The proof's time has whole seconds only; it is before the publication.
		if !v.proven.IsZero() && !v.proven.After(v.at.Add(time.Second)) {
			count++
		}
	}
	return promise{"logins proven before they were published", "all", fmt.Sprintf("%d of %d", count, len(versions)), count > 0 && count == len(versions)}
}

// followed: the application used every version soon after its publication.
func (p *past) followed(now time.Time) promise {
	slowest, late, count := time.Duration(0), 0, 0
	for _, secret := range []string{appSecret, serverSecret, loginSecret} {
		for i, v := range p.versions[secret] {
			switch after := v.mounted.Sub(v.at); {
			case i == 0: // it was published before the application started
			case v.mounted.IsZero() && now.Sub(v.at) < overlap: // it still has time
			case v.mounted.IsZero() || after > overlap:
				late++
				count++
			default:
				slowest = max(slowest, after)
				count++
			}
		}
	}
	return promise{
		"new versions in use within the overlap", fmt.Sprintf("all, in %s", overlap),
		fmt.Sprintf("%d of %d, slowest %.1f s", count-late, count, slowest.Seconds()), count >= 3*wantRotations && late == 0,
	}
}

// oldLogins: a replaced login is accepted during the overlap, lives as long as promised, and is rejected after that.
func (p *past) oldLogins() []promise {
	return []promise{p.overlapping(), p.livedLongEnough(), p.retiredPermanently()}
}

func (p *past) overlapping() promise {
	var accepted, tried int
	for _, v := range p.versions[loginSecret] {
		if v.inOverlap != nil {
			tried++
			if v.inOverlap.accepted {
				accepted++
			}
		}
	}
	return promise{"old logins accepted during the overlap", "all", fmt.Sprintf("%d of %d", accepted, tried), tried >= wantRotations && accepted == tried}
}

// livedLongEnough: the overlap starts with the publication of the next login, which is seen up to one poll late.
func (p *past) livedLongEnough() promise {
	var early, retired int
	versions := p.versions[loginSecret]
	for i, v := range versions[:max(0, len(versions)-1)] {
		if v.afterRetirement != nil {
			retired++
			if v.afterRetirement.at.Sub(versions[i+1].at) < overlap-time.Second {
				early++
			}
		}
	}
	return promise{"old logins retired before the overlap ended", "0", fmt.Sprintf("%d of %d", early, retired), retired >= wantRotations && early == 0}
}

func (p *past) retiredPermanently() promise {
	var retired int
	var words []string
	for _, v := range p.versions[loginSecret] {
		if v.afterRetirement != nil {
			retired++
			if !v.afterRetirement.accepted {
				words = append(words, v.afterRetirement.words)
			}
		}
	}
	seen := fmt.Sprintf("%d of %d, SQLSTATE %s", len(words), retired, sqlstates(words))
	return promise{"old logins rejected after retirement", "all", seen, retired >= wantRotations && len(words) == retired}
}

// sqlstates returns the SQLSTATEs of the rejections.
func sqlstates(words []string) string {
	var states []string
	for _, w := range words {
		if _, state, found := strings.Cut(w, "(SQLSTATE "); found {
			states = append(states, strings.TrimSuffix(state, ")"))
		}
	}
	slices.Sort(states)
	return strings.Join(slices.Compact(states), ", ")
}

// expiryReasons in the order of their levels.
var expiryReasons = []string{v1alpha1.ReasonExpiresSoon, v1alpha1.ReasonExpiresImminently, v1alpha1.ReasonExpired}

// levels: the identity that was not renewed warned once at each level.
func (p *past) levels() promise {
	var seen []string
	kept := true
	for _, reason := range expiryReasons {
		count := p.warnings[warning{object: forgottenName, reason: reason}]
		seen = append(seen, fmt.Sprintf("%d", count))
		kept = kept && count == 1
	}
	return promise{"warnings about the suspended identity", "1 at each of 3 levels", strings.Join(seen, ", "), kept}
}

func (p *past) unready() promise {
	made := promise{text: "Ready turns False at the second of expiry", expected: "within " + expiryTolerance.String(), seen: "never"}
	if p.expired != nil {
		after := p.expired.transition.Sub(p.expired.notAfter)
		made.seen, made.kept = fmt.Sprintf("%.0f s after notAfter", after.Seconds()), after.Abs() <= expiryTolerance
	}
	return made
}

// healthy: no rotating credential warned about its age.
func (p *past) healthy() promise {
	about := append([]string{v1alpha1.ReasonRotationOverdue}, expiryReasons...)
	count := 0
	for w, times := range p.warnings {
		if w.object != forgottenName && slices.Contains(about, w.reason) {
			count += times
		}
	}
	return promise{"expiry warnings about rotating credentials", "0", fmt.Sprintf("%d", count), count == 0}
}

func (p *past) undisturbed() promise {
	made := promise{text: "writes caused by an operator restart", expected: "0", seen: "no restart"}
	if p.restart != nil {
		made.seen = fmt.Sprintf("%d of %d objects, in %.0f s", len(p.restart.changed), p.restart.watched, p.restart.quiet.Seconds())
		made.kept = len(p.restart.changed) == 0
	}
	return made
}
