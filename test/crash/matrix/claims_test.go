// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package matrix

import (
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/rekey/rekey/internal/secretstore"
	"github.com/rekey/rekey/test/factcheck"
	"github.com/rekey/rekey/test/world"
)

// Eventf implements events.EventRecorder. A dead process emits nothing.
func (r *run) Eventf(_, _ runtime.Object, eventType, reason, _, note string, args ...any) {
	if r.dead {
		return
	}
	text := fmt.Sprintf(note, args...)
	r.seen.Lock()
	defer r.seen.Unlock()
	r.seen.events = append(r.seen.events, eventType+" "+reason)
	r.seen.texts[fmt.Sprintf("Event %d", len(r.seen.events))] = text
}

// lied records a false statement in a status or an Event. A dead process reports nothing.
func (r *run) lied(err error) {
	if r.dead {
		return
	}
	r.seen.Lock()
	defer r.seen.Unlock()
	r.seen.lies = append(r.seen.lies, err)
}

// lies returns the false statements of the last reconcile. If that reconcile met a fault, a write may have happened although it
// returned an error, and rekey cannot know before the next reconcile: then only the form counts.
func (r *run) lies(faulty bool) error {
	r.seen.Lock()
	defer r.seen.Unlock()
	var out []error
	for _, err := range r.seen.lies {
		if form := (*factcheck.FormError)(nil); !faulty || errors.As(err, &form) {
			out = append(out, err)
		}
	}
	r.seen.lies = nil
	return errors.Join(out...)
}

func (r *run) say(where, text string) {
	r.seen.Lock()
	defer r.seen.Unlock()
	r.seen.texts[where] = text
}

// label names a request by the role of its object in the life.
func (r *run) label(request world.Request) string {
	verb, kind := request.Verb, strings.TrimSuffix(request.Kind, "List")
	if kind != "Secret" && kind != "ConfigMap" {
		return verb + " " + kind
	}
	var role string
	switch request.Name {
	case r.id + "-secret":
		role = "published"
	case sharedAdmin, r.id + "-admin":
		role = "admin login"
	case sharedAuthority + "-secret":
		role = "authority's key pair"
	case secretstore.LedgerName(r.life.kind.name, r.object.GetName()):
		role = "ledger"
	case secretstore.LedgerName("CertificateAuthority", sharedAuthority):
		role = "authority's record"
	default:
		role = "?" + request.Name
	}
	return verb + " " + kind + " " + role
}
