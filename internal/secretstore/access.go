// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/refusal"
)

// read gets a Secret; nil where there is none.
func read(ctx context.Context, reader client.Reader, key client.ObjectKey) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := reader.Get(ctx, key, secret)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // no Secret is an answer, and no error
	case err != nil:
		return nil, apiError("reading", key, nil, err)
	}
	return secret, nil
}

// write creates the Secret where have is nil, and else updates it if it still has have's resourceVersion. It gives what
// the API server answered.
func write(ctx context.Context, c client.Client, have, want *corev1.Secret) (*corev1.Secret, error) {
	out, key := want.DeepCopy(), client.ObjectKeyFromObject(want)
	if err := refusePlaceholders(out); err != nil {
		return nil, err
	}
	if have == nil {
		out.ResourceVersion = ""
		if err := c.Create(ctx, out); err != nil {
			return nil, apiError("creating", key, want.Data, err)
		}
		return out, nil
	}
	out.UID, out.ResourceVersion = have.UID, have.ResourceVersion
	if err := c.Update(ctx, out); err != nil {
		return nil, apiError("updating", key, want.Data, err)
	}
	return out, nil
}

// remove deletes exactly the Secret that was read, and none that took its place or was changed since.
func remove(ctx context.Context, c client.Client, have *corev1.Secret) error {
	err := c.Delete(ctx, have.DeepCopy(), client.Preconditions{UID: &have.UID, ResourceVersion: &have.ResourceVersion})
	if err == nil {
		return nil
	}
	if err = apiError("deleting", client.ObjectKeyFromObject(have), have.Data, err); isGone(err) {
		return nil
	}
	return err
}

// isGone is an answer that needs no second try: the Secret is not found, or goes with its namespace.
func isGone(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// apiError keeps what the API server said, so that apierrors.IsConflict and the like hold, unless that quotes the data or is
// the word of a webhook, a policy or a quota.
func apiError(doing string, key client.ObjectKey, data map[string][]byte, err error) error {
	return refusal.Fault(fmt.Sprintf("%s Secret %s", doing, key), err, func(text string) bool { return quotes(text, secretOf(data, key)) })
}

// secretOf leaves out what everybody knows who sees the Secret's name, namespace and type: a database that is called like its
// Secret would otherwise hide every answer, and with it the quota or the policy that refuses.
func secretOf(data map[string][]byte, key client.ObjectKey) map[string][]byte {
	known := key.String() + " " + v1alpha1.SecretTypePostgreSQL
	out := map[string][]byte{}
	for name, value := range data {
		if !strings.Contains(known, string(bytes.TrimSpace(value))) {
			out[name] = value
		}
	}
	return out
}

// quotes reports whether text shows a value, or a long word of one, plain or as base64. What is too short to be a secret is
// passed over: it is found in any text. A ledger's value is a text with secrets in it, so words are looked for, too.
func quotes(text string, data map[string][]byte) bool {
	const shortest, shortestWord = 6, 16
	words := strings.FieldsFunc(text, func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune("+/=_", r)
	})
	for _, value := range data {
		value = bytes.TrimSpace(value)
		if len(value) < shortest {
			continue
		}
		for _, form := range [][]byte{value, []byte(base64.StdEncoding.EncodeToString(value))} {
			if bytes.Contains([]byte(text), form) {
				return true
			}
		}
		for _, word := range words {
			if len(word) >= shortestWord && bytes.Contains(value, []byte(word)) {
				return true
			}
		}
	}
	return false
}
