// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/fault"
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

// write creates the Secret where have is nil, and else updates it if it still has have's resourceVersion. It returns what the
// API server stored, also beside an alteredError.
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
		return out, altered("creating", want, out)
	}
	out.UID, out.ResourceVersion = have.UID, have.ResourceVersion
	if err := c.Update(ctx, out); err != nil {
		return nil, apiError("updating", key, want.Data, err)
	}
	return out, altered("updating", want, out)
}

// alteredError says that the API server stored a Secret otherwise than it was sent.
type alteredError struct {
	doing    string
	key      client.ObjectKey
	metadata []string
	data     []string
}

// Error implements error. It names keys and no values.
func (a *alteredError) Error() string {
	return fmt.Sprintf("%s Secret %s: a mutating admission webhook or policy changed what was sent (%s): exempt what has the label %s=%s",
		a.doing, a.key, strings.Join(append(slices.Clone(a.metadata), a.data...), ", "), v1alpha1.LabelManagedBy, v1alpha1.ManagedBy)
}

// altered compares what was sent with what was stored. More labels and annotations than were sent are everybody's right.
func altered(doing string, sent, stored *corev1.Secret) error {
	out := &alteredError{doing: doing, key: client.ObjectKeyFromObject(sent)}
	for kind, maps := range map[string][2]map[string]string{
		"label": {sent.Labels, stored.Labels}, "annotation": {sent.Annotations, stored.Annotations},
	} {
		for key, value := range maps[0] {
			if now, ok := maps[1][key]; !ok || now != value {
				out.metadata = append(out.metadata, kind+" "+key)
			}
		}
	}
	for key, value := range sent.Data {
		if now, ok := stored.Data[key]; !ok || !bytes.Equal(now, value) {
			out.data = append(out.data, "data "+key)
		}
	}
	for key := range stored.Data {
		if _, ok := sent.Data[key]; !ok {
			out.data = append(out.data, "data "+printable(key))
		}
	}
	if len(out.metadata)+len(out.data) == 0 {
		return nil
	}
	slices.Sort(out.metadata)
	slices.Sort(out.data)
	return fault.Blocked(fault.AdmissionDenied, out)
}

// alteredData reports whether a write that went through left other data than was sent. ok is true for any error of altered.
func alteredData(err error) (data, ok bool) {
	found, ok := errors.AsType[*alteredError](err)
	return ok && len(found.data) > 0, ok
}

// remove deletes exactly the Secret that was read, and none that took its place or was changed since.
func remove(ctx context.Context, c client.Client, have *corev1.Secret) error {
	err := c.Delete(ctx, have.DeepCopy(), client.Preconditions{UID: &have.UID, ResourceVersion: &have.ResourceVersion})
	if err == nil {
		return nil
	}
	// A namespace that ends refuses no deletion: only a Secret that is not found needs no second try.
	return client.IgnoreNotFound(apiError("deleting", client.ObjectKeyFromObject(have), have.Data, err))
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
// passed over: it is found in any text. A ledger's value is a text with secrets in it, so words are looked for, too. A webhook
// sees the data as base64, and may show a piece of it, or of what the Secret held before, which is not known here: whatever
// looks like a piece of a random value counts as one.
func quotes(text string, data map[string][]byte) bool {
	const shortest, shortestWord = 6, 16
	words := wordsOf(text)
	for _, value := range data {
		value = bytes.TrimSpace(value)
		if len(value) < shortest {
			continue
		}
		for _, form := range [][]byte{value, []byte(base64.StdEncoding.EncodeToString(value)), []byte(base64.URLEncoding.EncodeToString(value))} {
			holds := func(word string) bool { return len(word) >= shortestWord && bytes.Contains(form, []byte(word)) }
			if bytes.Contains([]byte(text), form) || slices.ContainsFunc(words, holds) {
				return true
			}
		}
	}
	return len(data) > 0 && slices.ContainsFunc(words, looksRandom)
}

// wordsOf splits a text at what is in no base64, and once more at what is in the URL's kind of it only.
func wordsOf(text string) []string {
	split := func(in string) []string {
		return strings.FieldsFunc(text, func(r rune) bool {
			return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(in, r)
		})
	}
	var out []string
	for _, word := range append(split("+/_-"), split("+/_")...) {
		out = append(out, strings.Trim(word, "-_/"))
	}
	return out
}

// looksRandom reports whether a word has capitals, small letters and digits, as passwords and base64 have and names have not.
func looksRandom(word string) bool {
	const shortest = 20
	return len(word) >= shortest && strings.ContainsFunc(word, unicode.IsUpper) && strings.ContainsFunc(word, unicode.IsLower) && strings.ContainsFunc(word, unicode.IsDigit)
}
