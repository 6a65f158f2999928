// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package failpoint

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"

	"github.com/rekey/rekey/internal/rotation"
	"github.com/rekey/rekey/internal/secretstore"
)

func TestAProcessDiesAtTheHitOfItsPointAndNowhereElse(t *testing.T) {
	trace := filepath.Join(t.TempDir(), "trace")
	p, err := New("after Stage#2", trace)
	if err != nil {
		t.Fatal(err)
	}
	deaths := 0
	p.die = func() { deaths++ }
	for range 3 {
		_, err := around(p, "Stage", func() (struct{}, error) { return struct{}{}, errors.New("it failed") })
		if err == nil {
			t.Error("the error of the call was lost")
		}
	}
	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Repeat("before Stage\nafter Stage\n", 2) + Died + "\n" + "before Stage\nafter Stage\n"
	if diff := cmp.Diff(want, string(text)); diff != "" || deaths != 1 {
		t.Errorf("%d deaths, and the trace (-want +got):\n%s", deaths, diff)
	}
}

func TestAPointThatCannotBeReadIsRefused(t *testing.T) {
	for _, armed := range []string{"after Stage#", "after Stage#0", "after Stage#x"} {
		if _, err := New(armed, ""); err == nil {
			t.Errorf("%q was accepted", armed)
		}
	}
}

func TestAStatementIsNamedByItsKeywordsAndNeverByQuotedText(t *testing.T) {
	for statement, want := range map[string]string{
		`ALTER ROLE "app ""x" LOGIN PASSWORD 'SCRAM-SHA-256$4096:it''s' VALID UNTIL 'infinity'`: "ALTER ROLE LOGIN PASSWORD",
		"commit": "commit", "begin isolation level read committed": "begin isolation level read",
		"SELECT pg_catalog.pg_advisory_xact_lock($1)": "", "\n with x as (select 1) select * from x": "", "rollback": "", "": "",
	} {
		if got := wordsOf(statement); got != want {
			t.Errorf("%q is named %q, want %q", statement, got, want)
		}
	}
}

// answering is an API server that accepts every request.
type answering struct{}

func (answering) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK}, nil
}

func request(t *testing.T, method, path string, object runtime.Object) *http.Request {
	t.Helper()
	body := ""
	if object != nil {
		codec := clientgoscheme.Codecs.LegacyCodec(corev1.SchemeGroupVersion)
		text, err := runtime.Encode(codec, object)
		if err != nil {
			t.Fatal(err)
		}
		body = string(text)
	}
	r, err := http.NewRequestWithContext(context.Background(), method, "https://api.example"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func ledgerSecret(t *testing.T, ledger secretstore.Ledger) *corev1.Secret {
	t.Helper()
	data, err := secretstore.EncodeLedger(ledger)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{Type: "rekey.dev/ledger", Data: data}
}

func TestARequestThatChangesSomethingIsNamedByVerbResourceAndContent(t *testing.T) {
	version := func(stage rotation.Stage) *secretstore.Record {
		return &secretstore.Record{Version: rotation.Version{Seq: 1, Slot: "a", Stage: stage}}
	}
	secrets := "/api/v1/namespaces/web/secrets"
	for name, tc := range map[string]struct {
		request *http.Request
		want    string
	}{
		"a read has no point":    {request(t, http.MethodGet, secrets+"/x", nil), ""},
		"a ledger with its step": {request(t, http.MethodPut, secrets+"/x", ledgerSecret(t, secretstore.Ledger{Pending: version(rotation.Staged), LastSeq: 1})), "update secrets (ledger Staged)"},
		"a ledger that is committed": {request(t, http.MethodPut, secrets+"/x",
			ledgerSecret(t, secretstore.Ledger{Current: version(rotation.Current), LastSeq: 1})), "update secrets (ledger Committed)"},
		"a Secret with its type":    {request(t, http.MethodPost, secrets, &corev1.Secret{Type: corev1.SecretTypeTLS}), "create secrets (tls)"},
		"a deletion":                {request(t, http.MethodDelete, secrets+"/x", nil), "delete secrets"},
		"a status":                  {request(t, http.MethodPut, "/apis/rekey.dev/v1alpha1/namespaces/web/clientidentities/x/status", nil), "update clientidentities/status"},
		"an object of no namespace": {request(t, http.MethodPatch, "/apis/rekey.dev/v1alpha1/clustercertificateauthorities/x", nil), "patch clustercertificateauthorities"},
		"a namespace itself":        {request(t, http.MethodDelete, "/api/v1/namespaces/web", nil), "delete namespaces"},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := New("", filepath.Join(t.TempDir(), "trace"))
			if err != nil {
				t.Fatal(err)
			}
			sent, _ := io.ReadAll(tc.request.Body)
			tc.request.Body = io.NopCloser(strings.NewReader(string(sent)))
			response, err := p.Transport(answering{}).RoundTrip(tc.request)
			if err != nil {
				t.Fatal(err)
			}
			if response.Body != nil {
				_ = response.Body.Close()
			}
			text, err := os.ReadFile(p.trace.Name())
			if err != nil {
				t.Fatal(err)
			}
			want := ""
			if tc.want != "" {
				want = "before " + tc.want + "\nafter " + tc.want + "\n"
			}
			if diff := cmp.Diff(want, string(text)); diff != "" {
				t.Errorf("the points (-want +got):\n%s", diff)
			}
		})
	}
}
