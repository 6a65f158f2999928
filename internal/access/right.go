// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package access

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/rekey/rekey/internal/fault"
)

// Right is one verb on one resource. A subresource follows the resource after a slash. Namespace is empty for a right that is
// needed for the whole cluster.
type Right struct {
	Verb, Group, Resource, Namespace string
	// answer is the API server's answer if something other than RBAC refused; empty otherwise.
	answer string
}

// Groups with their own manifest.
const (
	groupLeases         = "coordination.k8s.io"
	groupAuthentication = "authentication.k8s.io"
	groupAuthorization  = "authorization.k8s.io"
	groupRekey          = "rekey.dev"
)

// forbidden matches RBAC's answer and no other: those of quotas, admission webhooks and terminating namespaces differ. It is
// anchored, because a webhook may quote anything after its own text, and matches only names that Kubernetes allows, because
// messages show them.
var forbidden = regexp.MustCompile(`^\S+(?: "[^"]*")? is forbidden: User "(?:[^"\\]|\\.)*" cannot ([a-z]+) resource "([a-z0-9./-]+)" ` +
	`in API group "([a-z0-9.-]*)" (?:in the namespace "([a-z0-9-]+)"|at the cluster scope)`)

// ownerForbidden matches the answer of the admission plugin OwnerReferencesPermissionEnforcement.
var ownerForbidden = regexp.MustCompile(`^\S+(?: "[^"]*")? is forbidden: cannot set (blockOwnerDeletion|an ownerRef)\b.* you can't (?:set finalizers on|delete)\b`)

// Owned wraps err, the answer to a write of an object whose owner is of this resource: the API server does not name the resource
// whose finalizers may not be set.
func Owned(resource string, err error) error {
	if err == nil {
		return nil
	}
	return &owned{resource, err}
}

type owned struct {
	resource string
	err      error
}

// Error implements error.
func (o *owned) Error() string { return o.err.Error() }

// Unwrap returns the answer itself.
func (o *owned) Unwrap() error { return o.err }

// Missing returns the right that is missing according to err; ok is false if err is about something else.
func Missing(err error) (missing Right, ok bool) {
	var answer apierrors.APIStatus
	if !apierrors.IsForbidden(err) || !errors.As(err, &answer) {
		return Right{}, false
	}
	status := answer.Status()
	if m := forbidden.FindStringSubmatch(status.Message); m != nil {
		missing := Right{Verb: m[1], Resource: m[2], Group: m[3], Namespace: m[4]}
		if missing.Resource == "namespaces" {
			missing.Namespace = "" // the API server names the requested namespace
		}
		return missing, true
	}
	m := ownerForbidden.FindStringSubmatch(status.Message)
	switch {
	case m == nil:
		return Right{}, false
	case m[1] == "blockOwnerDeletion":
		resource := "certificateauthorities"
		if owner, ok := errors.AsType[*owned](err); ok {
			resource = owner.resource
		}
		return Right{Verb: "update", Group: groupRekey, Resource: resource + "/finalizers"}, true
	case status.Details != nil:
		return Right{Verb: "delete", Group: status.Details.Group, Resource: status.Details.Kind}, true
	}
	return Right{Verb: "delete", Resource: "secrets"}, true
}

// answerOf returns the text of a refusal, bounded and on one line: its origin is not known.
func answerOf(err error) string {
	const most = 200
	text := strings.Join(strings.Fields(strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' '
	}, strings.ToValidUTF8(err.Error(), "?"))), " ")
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "..."
	}
	return cmp.Or(text, "without a reason")
}

// Name returns the resource as `kubectl auth can-i` writes it: followed by the API group, and the subresource last.
func (r Right) Name() string {
	resource, sub, isSub := strings.Cut(r.Resource, "/")
	if r.Group != "" {
		resource += "." + r.Group
	}
	if isSub {
		resource += "/" + sub
	}
	return resource
}

// String returns the right in words, such as "update secrets in namespace web".
func (r Right) String() string {
	text := r.Verb + " " + r.Name()
	if r.Namespace != "" {
		text += " in namespace " + r.Namespace
	}
	return text
}

// Grant returns the manifest that grants the right.
func (r Right) Grant() string {
	resource, _, _ := strings.Cut(r.Resource, "/")
	switch {
	case r.Group == "" && (resource == "secrets" || resource == "configmaps") && r.Namespace == "":
		return "the ClusterRole rekey-secrets in config/rbac/cluster"
	case r.Group == "" && (resource == "secrets" || resource == "configmaps"):
		return "the Role rekey-secrets in config/namespaced/secrets-role, or for all namespaces the ClusterRole rekey-secrets in config/rbac/cluster"
	case r.Group == groupLeases, r.Group == "" && resource == "events":
		return "the Role rekey-leader-election in config/rbac/leader_election_role.yaml"
	case r.Group == groupAuthentication, r.Group == groupAuthorization:
		return "the ClusterRole rekey-metrics-auth in config/rbac/metrics_auth_role.yaml"
	}
	return "the ClusterRole rekey in config/rbac/role.yaml"
}

// Text returns the sentence for conditions, Events and logs.
func (r Right) Text() string {
	if r.answer != "" {
		return fmt.Sprintf("rekey may not %s: something other than RBAC refused it (%s): "+
			"allow it in the authorization webhook, the aggregated API server or the proxy that refuses it", r, r.answer)
	}
	return fmt.Sprintf("rekey may not %s: apply and bind %s", r, r.Grant())
}

// refused is an answer of the API server, in rekey's words.
type refused struct {
	right Right
	err   error
}

// Error implements error.
func (r *refused) Error() string { return r.right.Text() }

// Unwrap returns the answer itself.
func (r *refused) Unwrap() error { return r.err }

// Failed returns an error of the API server with its class and reason: a missing right waits for a user, and anything else may
// resolve on its own. doing is an -ing phrase that names the object.
func Failed(doing string, err error) error {
	if right, ok := Missing(err); ok {
		return fault.Blocked(fault.Forbidden, fmt.Errorf("%s: %w", doing, &refused{right, err}))
	}
	return fault.Transient(fault.APIServerFailed, fmt.Errorf("%s: %w", doing, err))
}
