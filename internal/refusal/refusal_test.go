// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package refusal

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/rekey/rekey/internal/fault"
)

func answer(code int32, reason metav1.StatusReason, message string) error {
	return &apierrors.StatusError{ErrStatus: metav1.Status{Status: metav1.StatusFailure, Code: code, Reason: reason, Message: message}}
}

func ending() error {
	err := apierrors.NewForbidden(corev1.Resource("secrets"), "x", errors.New("unable to create new content in namespace web because it is being terminated"))
	err.ErrStatus.Details.Causes = append(err.ErrStatus.Details.Causes, metav1.StatusCause{Type: corev1.NamespaceTerminatingCause})
	return err
}

// The texts are those that API servers of Kubernetes 1.36 send.
var answers = map[string]struct {
	err  error
	want Refusal
}{
	"RBAC":                            {answer(403, metav1.StatusReasonForbidden, `secrets "x" is forbidden: User "system:serviceaccount:rekey-system:rekey" cannot get resource "secrets" in API group "" in the namespace "web"`), Refusal{Kind: KindForbidden}},
	"the namespace ends":              {ending(), Refusal{Kind: KindNamespaceTerminating}},
	"a policy, invalid":               {answer(422, metav1.StatusReasonInvalid, `secrets "x" is forbidden: ValidatingAdmissionPolicy 'team-label' with binding 'team-label-all' denied request: failed expression: has(object.metadata.labels.team)`), Refusal{KindPolicy, "team-label"}},
	"a policy without a binding":      {answer(403, metav1.StatusReasonForbidden, `secrets "x" is forbidden: ValidatingAdmissionPolicy 'team-label' denied request: no`), Refusal{KindPolicy, "team-label"}},
	"a policy whose expression fails": {answer(403, metav1.StatusReasonForbidden, `secrets "x" is forbidden: policy 'team-label' with binding 'b' denied request: expression 'x' resulted in error: no such key: team`), Refusal{KindPolicy, "team-label"}},
	"a quota is exceeded":             {answer(403, metav1.StatusReasonForbidden, `secrets "x" is forbidden: exceeded quota: team-quota, requested: count/secrets=1, used: count/secrets=1, limited: count/secrets=1`), Refusal{KindQuota, "team-quota"}},
	"a quota has no status yet":       {answer(403, metav1.StatusReasonForbidden, `secrets "x" is forbidden: status unknown for quota: team-quota, resources: count/secrets`), Refusal{KindQuota, "team-quota"}},
	"a quota without a name":          {answer(403, metav1.StatusReasonForbidden, `secrets "x" is forbidden: insufficient quota to consume: count/secrets`), Refusal{Kind: KindQuota}},
	"a webhook cannot be called":      {answer(500, metav1.StatusReasonInternalError, `Internal error occurred: failed calling webhook "deny.example.com": failed to call webhook: Post "https://127.0.0.1:1/?timeout=1s": dial tcp 127.0.0.1:1: connect: connection refused`), Refusal{KindWebhook, "deny.example.com"}},
	"not found":                       {apierrors.NewNotFound(corev1.Resource("secrets"), "x"), Refusal{}},
	"a conflict":                      {apierrors.NewConflict(corev1.Resource("secrets"), "x", errors.New("modified")), Refusal{}},
	"a conflict over the quota":       {apierrors.NewConflict(corev1.Resource("resourcequotas"), "q", errors.New("modified")), Refusal{}},
	"too many requests":               {apierrors.NewTooManyRequests("slow down", 1), Refusal{}},
	"no answer":                       {errors.New("connection refused"), Refusal{}},
	"a webhook that lies of a quota":  {answer(403, metav1.StatusReasonForbidden, `admission webhook "deny.example.com" denied the request: secrets "x" is forbidden: exceeded quota: team-quota, requested`), Refusal{KindWebhook, "deny.example.com"}},
	"a webhook that lies of a policy": {answer(403, metav1.StatusReasonForbidden, `admission webhook "deny.example.com" denied the request: ValidatingAdmissionPolicy 'p' denied request: no`), Refusal{KindWebhook, "deny.example.com"}},
}

func TestTheRefuserIsReadFromTheAnswer(t *testing.T) {
	t.Parallel()
	for name, tc := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, err := range []error{tc.err, fmt.Errorf("creating: %w", tc.err), Fault("creating Secret web/x", fmt.Errorf("again: %w", tc.err), nil)} {
				got := Of(err)
				if fault.Classify(err) == fault.ClassBlocked {
					continue // a Blocked fault drops the answer
				}
				if got != tc.want {
					t.Errorf("%v: %+v, want %+v", err, got, tc.want)
				}
			}
		})
	}
}

// A webhook chooses the code and the reason of its answer: whatever they are, it is a refusal, and neither a lost race nor a
// missing object.
func TestAWebhookIsARefusalWhateverItsText(t *testing.T) {
	t.Parallel()
	for code := int32(http.StatusBadRequest); code < 600; code++ {
		for _, reason := range []metav1.StatusReason{"", metav1.StatusReasonConflict, metav1.StatusReasonAlreadyExists, metav1.StatusReasonNotFound, metav1.StatusReasonGone, metav1.StatusReasonTooManyRequests, metav1.StatusReasonForbidden} {
			// It also chooses the causes of its answer.
			err := Fault("updating Secret web/x", &apierrors.StatusError{ErrStatus: metav1.Status{
				Status: metav1.StatusFailure, Code: code, Reason: reason, Message: `admission webhook "deny.example.com" denied the request without explanation`,
				Details: &metav1.StatusDetails{Causes: []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}},
			}}, nil)
			if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) || apierrors.IsConflict(err) || apierrors.IsNotFound(err) || apierrors.IsAlreadyExists(err) || apierrors.IsGone(err) ||
				fault.ReasonOf(err, "") != fault.AdmissionDenied || fault.Classify(err) != fault.ClassBlocked {
				t.Fatalf("code %d, reason %q: %v is mistaken for something else", code, reason, err)
			}
			if want := `updating Secret web/x: refused by admission webhook "deny.example.com" (`; !strings.HasPrefix(err.Error(), want) {
				t.Fatalf("%v", err)
			}
		}
	}
}

func TestAnAnswerThatQuotesASecretIsWithheld(t *testing.T) {
	t.Parallel()
	quotes := func(text string) bool { return strings.Contains(text, "hunter2hunter2") }
	for name, tc := range answers {
		err := tc.err
		var status apierrors.APIStatus
		if !errors.As(err, &status) {
			continue
		}
		s := status.Status()
		s.Message += ": hunter2hunter2"
		got := Fault("creating Secret web/x", &apierrors.StatusError{ErrStatus: s}, quotes)
		if strings.Contains(got.Error(), "hunter2") || fault.ReasonOf(got, "") != fault.Forbidden && !strings.Contains(got.Error(), "withheld") {
			t.Errorf("%s: %v", name, got)
		}
		if tc.want.Name != "" && !strings.Contains(got.Error(), tc.want.Name) {
			t.Errorf("%s: %v does not name what refused it", name, got)
		}
		if apierrors.IsNotFound(err) != apierrors.IsNotFound(got) || apierrors.IsConflict(err) != apierrors.IsConflict(got) {
			t.Errorf("%s: the meaning of %v is lost", name, got)
		}
	}
}
