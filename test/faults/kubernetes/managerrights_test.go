// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/go-logr/logr/funcr"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"

	"github.com/rekey/rekey/internal/metricsauth"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// loss is a set of rights on one resource that are removed together.
type loss struct {
	grants []grant
	late   bool // in the middle of a life, not from the start
}

func (l loss) String() string {
	var names []string
	for _, g := range l.grants {
		names = append(names, g.verb)
	}
	when := "from the start"
	if l.late {
		when = "in the middle"
	}
	return strings.Join(names, "+") + " " + l.grants[0].right("").Name() + ", " + when
}

// losses are the possible losses of a manager: everything that fills a cache, and the rights for leader election and Events.
func losses(t *testing.T) []loss {
	t.Helper()
	var out []loss
	resources := map[string][]grant{}
	for _, g := range grantsOf(t, roleOfKinds, roleOfTenant, roleOfElection) {
		if g.sweep() != sweepOfManager {
			continue
		}
		out = append(out, loss{grants: []grant{g}}, loss{[]grant{g}, true})
		if g.verb == "list" || g.verb == "watch" {
			resources[g.resource] = append(resources[g.resource], g)
		}
	}
	for _, both := range resources {
		out = append(out, loss{grants: both}, loss{both, true})
	}
	slices.SortFunc(out, func(a, b loss) int { return strings.Compare(a.String(), b.String()) })
	return out
}

func (l loss) of(verbs ...string) bool {
	return slices.ContainsFunc(l.grants, func(g grant) bool { return slices.Contains(verbs, g.verb) })
}

// unknown returns the kind of which a new process cannot know any object, and the kinds that depend on it: an unknown authority
// has no key.
func (l loss) unknown() []string {
	if l.late || !l.of("list") || !l.of("watch") {
		return nil
	}
	return map[string][]string{"clientidentities": {"clientidentity"}, "databasecredentials": {"databasecredential"}, "databaseservers": {"databaseserver"},
		"certificateauthorities": {"certificateauthority", "clientidentity"}, "rotationpolicies": {"rotationpolicy"}}[l.grants[0].resource]
}

func (k *supervised) play(l loss) {
	k.t.Helper()
	lease := l.grants[0].resource == "leases"
	if l.late {
		k.run()
		k.begin()
		k.served(true)
		k.account.remove(l.grants...)
		k.cutter.cut()
	} else {
		k.account.remove(l.grants...)
		k.run()
		k.begin()
	}
	said := func(g grant) bool {
		return k.metric(g) && k.logged("A right is missing", `"`+g.verb+`"`, g.right("").Name(), g.right(k.Namespace).Grant())
	}
	// Only processes whose watches are refused list, and the leader only updates its lease. The election emits its Events once,
	// when it is won.
	asked := func(g grant) bool {
		if g.role == roleOfElection && g.resource == "events" {
			return g.verb == "create" && !l.late
		}
		return !(g.verb == "list" && !l.of("watch")) && !(lease && l.late && g.verb != "update")
	}
	if l.grants[0].group == eventsv1.GroupName {
		k.served(false)
		k.rotates(2)    // this emits an Event
		k.repeatEvent() // this makes an Event a series
	}
	for _, g := range l.grants {
		if asked(g) {
			until(k.t, func() bool { return said(g) }, func() string {
				return "log or metric do not report that rekey may not " + g.String() + ":\n" + k.log.String()
			})
		}
	}
	switch {
	case lease:
		if asked(l.grants[0]) {
			until(k.t, func() bool { return strings.Contains(k.unready(), "leases") }, func() string { return "readiness does not name the lease: " + k.unready() })
		}
	default:
		k.served(false, l.unknown()...)
		if !slices.Contains(l.unknown(), "databasecredential") {
			k.rotates(2)
		}
		if l.of("watch") {
			until(k.t, func() bool { return strings.Contains(k.unready(), l.grants[0].resource) }, func() string { return "readiness does not name the missing right: " + k.unready() })
		}
	}
	k.account.restore()
	k.served(true)
	until(k.t, func() bool { return k.unready() == "" && !slices.ContainsFunc(l.grants, k.metric) }, func() string { return "all rights are restored, but readiness reports: " + k.unready() })
	// A machine that is too busy to renew the lease in time also ends a process, and rightly so.
	if !lease && k.starts > 1 && !k.logged("the process exited", "leader election lost") {
		k.t.Errorf("the process exited: it was started %d times", k.starts)
	}
	if k.login.Status.Revision == 1 { // the overlap of another rotation would take longer than the test
		k.rotates(2)
	}
}

// T1, R24: each right that a manager needs outside of its reconciles is removed on a real API server, from the start and in the
// middle of a life. Everything that does not need it continues, log, metric and readiness name the right, and nothing needs
// help.
func TestEveryMissingManagerRightIsReported(t *testing.T) {
	all, chance := losses(t), size.Random(t, 0)
	chance.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	tried := all[:min(len(all), size.Number(8, len(all)))]
	t.Logf("%d of %d losses", len(tried), len(all))
	for _, l := range tried {
		t.Run(l.String(), func(t *testing.T) {
			t.Parallel()
			newSupervised(t).play(l)
		})
	}
}

// Without the rights to authenticate and authorize the readers of the metrics, no reader gets them, and the log names the
// right.
func TestTheMetricsEndpointLogsItsMissingRight(t *testing.T) {
	w := world.New(t, nil)
	account := newAccount(t, w.Client, w.Namespace, roleOfMetrics)
	reader := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: "prometheus"}}
	w.Create(reader)
	token := &authenticationv1.TokenRequest{}
	if err := w.Client.SubResource("token").Create(w.Ctx, reader, token); err != nil {
		t.Fatal(err)
	}
	for _, g := range grantsOf(t, roleOfMetrics) {
		account.remove(g)
		var log strings.Builder
		config := world.APIServer()
		config.Impersonate = account.user
		transport, err := rest.HTTPClientFor(config)
		if err != nil {
			t.Fatal(err)
		}
		filter, err := metricsauth.New(clock.RealClock{})(config, transport)
		if err != nil {
			t.Fatal(err)
		}
		guarded, err := filter(funcr.New(func(_, line string) { log.WriteString(line) }, funcr.Options{}), http.NotFoundHandler())
		if err != nil {
			t.Fatal(err)
		}
		request := httptest.NewRequestWithContext(w.Ctx, http.MethodGet, "/metrics", nil)
		request.Header.Set("Authorization", "Bearer "+token.Status.Token)
		answer := httptest.NewRecorder()
		guarded.ServeHTTP(answer, request)
		if answer.Code != http.StatusInternalServerError || !strings.Contains(log.String(), g.right("").Text()) {
			t.Errorf("without the right to %s the metrics return %d, and the log contains: %s", g, answer.Code, log.String())
		}
		if strings.Contains(log.String(), token.Status.Token) {
			t.Error("the log shows the token")
		}
	}
}
