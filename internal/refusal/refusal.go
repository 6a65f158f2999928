// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

// Package refusal determines what refused a request to the API server: an authorizer, an admission webhook or policy, a quota, or
// the termination of the namespace. All of them may answer with the same code, and a webhook with any code: a webhook's answer
// that looks like 404 or 409 means neither a missing object nor a conflict.
package refusal

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/internal/access"
	"github.com/rekey/rekey/internal/fault"
)

// Kind is what refused a request.
type Kind int

const (
	// KindNone is for every error that is not a refusal: a failure, a conflict, an object that is not found.
	KindNone Kind = iota
	// KindForbidden is for an authorizer (RBAC), or a built-in admission plugin that has no name of its own here.
	KindForbidden
	// KindWebhook is for an admission webhook that denied the request, or could not be called and fails closed.
	KindWebhook
	// KindPolicy is for a ValidatingAdmissionPolicy or MutatingAdmissionPolicy.
	KindPolicy
	// KindQuota is for a ResourceQuota.
	KindQuota
	// KindNamespaceTerminating is for a namespace that is being deleted.
	KindNamespaceTerminating
)

// Refusal is what refused a request, and its name if it has one.
type Refusal struct {
	Kind Kind
	Name string
}

// forms are the messages in which the API server names what refused (k8s.io/apiserver: admission/plugin/webhook/errors,
// admission/plugin/policy, admission/plugin/resourcequota). The names come from the cluster's configuration.
var forms = []struct {
	kind Kind
	text *regexp.Regexp
}{
	{KindWebhook, regexp.MustCompile(`^admission webhook "([^"]{1,253})" (?:denied the request|does not support dry run)`)},
	{KindWebhook, regexp.MustCompile(`^Internal error occurred: (?:admission plugin "[^"]*" failed to complete [a-z]+ in [^:]*: )?failed calling webhook "([^"]{1,253})"`)},
	{KindPolicy, regexp.MustCompile(`^(?:.{0,600} (?:is forbidden|is invalid|is unauthorized|is too large): )?(?:Validating|Mutating)AdmissionPolicy '([^']{1,253})' (?:with binding '[^']{0,253}' )?denied request`)},
	{KindPolicy, regexp.MustCompile(`^(?:.{0,600} (?:is forbidden|is invalid): )?policy ['"]([^'"]{1,253})['"] (?:with binding '[^']{0,253}' )?denied request`)},
	{KindQuota, regexp.MustCompile(`^.{0,600} is forbidden: (?:exceeded|failed) quota: ([^,:\s]{1,253})`)},
	{KindQuota, regexp.MustCompile(`^.{0,600} is forbidden: status unknown for quota: ([^,:\s]{1,253})`)},
	{KindQuota, regexp.MustCompile(`^.{0,600} is forbidden: (?:insufficient quota to|quota usage is negative)()`)},
}

// Of returns what refused a request. Wrapping err does not change the result.
func Of(err error) Refusal {
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return Refusal{}
	}
	status := answer.Status()
	// The text first: a webhook also chooses the causes in its answer.
	for _, form := range forms {
		if found := form.text.FindStringSubmatch(status.Message); found != nil {
			return Refusal{form.kind, found[1]}
		}
	}
	if hasCause(status, corev1.NamespaceTerminatingCause) {
		return Refusal{Kind: KindNamespaceTerminating}
	}
	if status.Reason == metav1.StatusReasonForbidden {
		return Refusal{Kind: KindForbidden}
	}
	return Refusal{}
}

func hasCause(status metav1.Status, cause metav1.CauseType) bool {
	if status.Details == nil {
		return false
	}
	for _, c := range status.Details.Causes {
		if c.Type == cause {
			return true
		}
	}
	return false
}

// String names what refused, for messages.
func (r Refusal) String() string {
	switch r.Kind {
	case KindWebhook:
		return fmt.Sprintf("admission webhook %q", r.Name)
	case KindPolicy:
		return fmt.Sprintf("admission policy %q", r.Name)
	case KindQuota:
		if r.Name == "" {
			return "a ResourceQuota"
		}
		return fmt.Sprintf("ResourceQuota %q", r.Name)
	case KindForbidden:
		return "an authorizer"
	case KindNamespaceTerminating:
		return "the deletion of the namespace"
	case KindNone:
	}
	return "the API server"
}

// Fault returns err, the API server's answer to a request, with its class and reason. doing starts the message: "creating Secret
// a/b". If admission refused the request, the answer's code and reason are dropped: a webhook chooses both. If quotes reports that
// the text of the answer shows a secret, the text is withheld; quotes is nil for a request without secrets.
func Fault(doing string, err error, quotes func(text string) bool) error {
	by := Of(err)
	withheld := quotes != nil && quotes(err.Error())
	switch by.Kind {
	case KindWebhook, KindPolicy, KindQuota:
		return refused(doing, by, explanation(err, withheld))
	case KindForbidden:
		if _, ok := access.Missing(err); ok {
			return access.Failed(doing, err) // RBAC answers before it reads what is sent
		}
	case KindNone, KindNamespaceTerminating:
	}
	if withheld {
		err = bare(by, err)
	}
	return fault.Transient(fault.APIServerFailed, fmt.Errorf("%s: %w", doing, err))
}

// refused returns an error that no longer is an answer of the API server.
func refused(doing string, by Refusal, why string) error {
	reason, help := fault.AdmissionDenied, "allow the request there, or change what it requires"
	if by.Kind == KindQuota {
		reason, help = fault.QuotaExceeded, "raise the quota, or remove what it counts"
	}
	return fault.Blocked(reason, fmt.Errorf("%s: refused by %s%s: %s", doing, by, why, help))
}

// explanation returns the message of the webhook, policy or quota in parentheses, or a note that it is withheld.
func explanation(err error, withheld bool) string {
	if withheld {
		return " (its answer may quote the Secret and is withheld)"
	}
	var answer apierrors.APIStatus
	if !errors.As(err, &answer) {
		return ""
	}
	return " (" + printable(answer.Status().Message) + ")"
}

// printable bounds a text that another component wrote.
func printable(text string) string {
	const most = 400
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
	if len(text) > most {
		return strings.ToValidUTF8(text[:most], "") + "..."
	}
	return text
}

// bare keeps the code and the reason of an answer, so that apierrors.IsConflict and the like keep working, and drops its text.
func bare(by Refusal, err error) error {
	status := metav1.Status{Status: metav1.StatusFailure, Reason: apierrors.ReasonForError(err)}
	var answer apierrors.APIStatus
	if errors.As(err, &answer) {
		status.Code = answer.Status().Code
	}
	answered := strings.TrimSpace(fmt.Sprintf("the API server answered %d %s", status.Code, status.Reason))
	if status.Code == 0 && status.Reason == metav1.StatusReasonUnknown {
		answered = "the API server did not answer, or the answer was lost"
	}
	status.Message = answered + " (the rest may quote the Secret and is withheld)"
	if by.Kind == KindNamespaceTerminating {
		status.Details = &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}}
	}
	return &apierrors.StatusError{ErrStatus: status}
}
