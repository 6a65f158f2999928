// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package metricsauth

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-logr/logr"
	authenticationv1 "k8s.io/api/authentication/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	authenticationclient "k8s.io/client-go/kubernetes/typed/authentication/v1"
	authorizationclient "k8s.io/client-go/kubernetes/typed/authorization/v1"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/cache"
)

const (
	// allowedFor and refusedFor are how long an answer of the API server is cached: a revoked token keeps working that long, and
	// a new permission takes effect after that long.
	allowedFor = time.Minute
	refusedFor = 10 * time.Second
	// remembered is how many answers of each kind are cached at least: clients that guess tokens cannot make the cache grow.
	remembered = 256
	// patience is the deadline for a turn and for the API server, less than Prometheus's default of ten seconds.
	patience = 5 * time.Second
	// atOnce is how many requests to the API server may run at once for clients that were allowed before, and as many for
	// all others. Further requests have to wait.
	atOnce = 4
	// longestToken is the longest token that is sent to the API server, in bytes; those of service accounts have about a thousand.
	longestToken = 16 << 10
)

// New returns a FilterProvider for controller-runtime's metrics server: a filter that asks the API server before the handler may
// answer. passing is the clock for cached answers.
func New(passing clock.PassiveClock) func(config *rest.Config, client *http.Client) (metricsserver.Filter, error) {
	return func(config *rest.Config, client *http.Client) (metricsserver.Filter, error) {
		g, err := newGuard(config, client, passing)
		if err != nil {
			return nil, err
		}
		return func(log logr.Logger, handler http.Handler) (http.Handler, error) {
			return g.before(log, handler), nil
		}, nil
	}
}

// answer is the API server's answer as an HTTP status: 200 if the client may read the metrics.
type answer struct {
	status int
	user   string
	until  time.Time
}

// memory holds cached answers, and the slots for requests to the API server.
type memory struct {
	answers *cache.Bounded[answer]
	turns   chan struct{}
}

func newMemory() memory {
	return memory{answers: cache.New[answer](remembered), turns: make(chan struct{}, atOnce)}
}

// guard keeps clients that were allowed before apart from all others, so that the others can neither block them nor evict their
// answers.
type guard struct {
	tokens          authenticationclient.TokenReviewInterface
	rights          authorizationclient.SubjectAccessReviewInterface
	clock           clock.PassiveClock
	patience        time.Duration
	allowed, others memory
}

func newGuard(config *rest.Config, client *http.Client, passing clock.PassiveClock) (*guard, error) {
	tokens, err := authenticationclient.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("creating a client for token reviews: %w", err)
	}
	rights, err := authorizationclient.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("creating a client for access reviews: %w", err)
	}
	return &guard{tokens: tokens.TokenReviews(), rights: rights.SubjectAccessReviews(), clock: passing, patience: patience, allowed: newMemory(), others: newMemory()}, nil
}

// errBusy means that the request waited too long for its turn.
var errBusy = errors.New("too many concurrent requests")

func (g *guard) before(log logr.Logger, handler http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got, err := g.judge(r)
		switch {
		case errors.Is(err, errBusy):
			log.V(1).Info("Too many concurrent requests for the metrics", "path", r.URL.Path)
			http.Error(w, "Too many concurrent requests. Try again.", http.StatusServiceUnavailable)
		case errors.Is(err, context.Canceled):
			// The client has disconnected, or the operator is exiting.
			http.Error(w, "The request was canceled.", http.StatusServiceUnavailable)
		case err != nil:
			log.Error(err, "Authorizing a metrics request with the API server failed", "path", r.URL.Path)
			http.Error(w, "The request could not be authorized with the API server. See the operator's log.", http.StatusInternalServerError)
		case got.status == http.StatusUnauthorized:
			w.Header().Set("WWW-Authenticate", "Bearer")
			http.Error(w, "A bearer token that the API server accepts is required.", got.status)
		case got.status == http.StatusForbidden:
			log.V(1).Info("Denied access to the metrics", "user", got.user, "path", r.URL.Path)
			http.Error(w, fmt.Sprintf("User %s may not %s %s: bind the ClusterRole rekey-metrics-reader.", got.user, verbOf(r), r.URL.Path), got.status)
		default:
			handler.ServeHTTP(w, r)
		}
	})
}

func verbOf(r *http.Request) string { return strings.ToLower(r.Method) }

// judge returns the answer for a request, from memory while it is valid.
func (g *guard) judge(r *http.Request) (answer, error) {
	token, ok := bearer(r.Header.Get("Authorization"))
	if !ok {
		return answer{status: http.StatusUnauthorized}, nil
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%s %q %s", verbOf(r), r.URL.Path, token))
	as := g.others
	if known, ok := as.answers.Get(key); ok && g.clock.Now().Before(known.until) {
		return known, nil
	}
	if known, ok := g.allowed.answers.Get(key); ok {
		if g.clock.Now().Before(known.until) {
			return known, nil
		}
		as = g.allowed
	}
	ctx, cancel := context.WithTimeout(r.Context(), g.patience)
	defer cancel()
	select {
	case as.turns <- struct{}{}:
		defer func() { <-as.turns }()
	case <-ctx.Done():
		return answer{}, cmp.Or(r.Context().Err(), errBusy)
	}
	got, err := g.ask(ctx, token, verbOf(r), r.URL.Path)
	if err != nil {
		return answer{}, err
	}
	if got.status == http.StatusOK {
		got.until = g.clock.Now().Add(allowedFor)
		g.allowed.answers.Put(key, got)
		return got, nil
	}
	got.until = g.clock.Now().Add(refusedFor)
	g.others.answers.Put(key, got)
	return got, nil
}

// bearer returns the bearer token of an Authorization header (RFC 6750, section 2.1).
func bearer(header string) (token string, ok bool) {
	scheme, token, found := strings.Cut(strings.TrimSpace(header), " ")
	token = strings.TrimSpace(token)
	return token, found && strings.EqualFold(scheme, "Bearer") && token != "" && len(token) <= longestToken
}

// ask asks the API server. Errors never contain the token, since only the code and the reason of an answer are used: an admission
// webhook might quote the request.
func (g *guard) ask(ctx context.Context, token, verb, path string) (answer, error) {
	review, err := g.tokens.Create(ctx, &authenticationv1.TokenReview{Spec: authenticationv1.TokenReviewSpec{Token: token}}, metav1.CreateOptions{})
	if err != nil {
		return answer{}, fmt.Errorf("reviewing a token: %w", withoutText(err))
	}
	if !review.Status.Authenticated {
		return answer{status: http.StatusUnauthorized}, nil
	}
	user := review.Status.User
	extra := make(map[string]authorizationv1.ExtraValue, len(user.Extra))
	for name, values := range user.Extra {
		extra[name] = authorizationv1.ExtraValue(values)
	}
	access, err := g.rights.Create(ctx, &authorizationv1.SubjectAccessReview{Spec: authorizationv1.SubjectAccessReviewSpec{
		User: user.Username, UID: user.UID, Groups: user.Groups, Extra: extra,
		NonResourceAttributes: &authorizationv1.NonResourceAttributes{Path: path, Verb: verb},
	}}, metav1.CreateOptions{})
	if err != nil {
		return answer{}, fmt.Errorf("reviewing the permissions of %s: %w", user.Username, withoutText(err))
	}
	if !access.Status.Allowed || access.Status.Denied {
		return answer{status: http.StatusForbidden, user: user.Username}, nil
	}
	return answer{status: http.StatusOK, user: user.Username}, nil
}

func withoutText(err error) error {
	if missing, ok := access.Missing(err); ok {
		return errors.New(missing.Text()) // RBAC quotes the request, which is known, and never the token
	}
	var answered apierrors.APIStatus
	if errors.As(err, &answered) {
		status := answered.Status()
		return fmt.Errorf("the API server answered %d %s", status.Code, status.Reason)
	}
	return err
}
