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

// read returns a Secret; nil if it does not exist.
func read(ctx context.Context, reader client.Reader, key client.ObjectKey) (*corev1.Secret, error) {
	secret := &corev1.Secret{}
	err := reader.Get(ctx, key, secret)
	switch {
	case apierrors.IsNotFound(err):
		return nil, nil //nolint:nilnil // no Secret is an answer, not an error
	case err != nil:
		return nil, apiError("reading", key, nil, err)
	}
	return secret, nil
}

// write creates the Secret if have is nil; otherwise it updates the Secret if that still has have's resourceVersion. It returns
// what the API server stored, even together with an alteredError.
func write(ctx context.Context, c client.Client, have, want *corev1.Secret) (*corev1.Secret, error) {
	out, key := want.DeepCopy(), client.ObjectKeyFromObject(want)
	if err := refusePlaceholders(out); err != nil {
		return nil, err
	}
	if have == nil {
		out.ResourceVersion = ""
		if err := c.Create(ctx, out); err != nil {
			return nil, apiError("creating", key, want, err)
		}
		return out, altered("creating", want, out)
	}
	out.UID, out.ResourceVersion = have.UID, have.ResourceVersion
	if err := c.Update(ctx, out); err != nil {
		return nil, apiError("updating", key, want, err)
	}
	return out, altered("updating", want, out)
}

// alteredError reports that the API server stored a Secret that differs from what was sent.
type alteredError struct {
	doing    string
	key      client.ObjectKey
	metadata []string
	data     []string
}

// Error implements error. It names keys, not values.
func (a *alteredError) Error() string {
	return fmt.Sprintf("%s Secret %s: a mutating admission webhook or policy changed it (%s): exempt Secrets with the label %s=%s",
		a.doing, a.key, strings.Join(append(slices.Clone(a.metadata), a.data...), ", "), v1alpha1.LabelManagedBy, v1alpha1.ManagedBy)
}

// altered compares what was sent with what was stored. Additional labels and annotations are allowed.
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

// alteredData reports whether a successful write stored different data than was sent. ok is true for any error of altered.
func alteredData(err error) (data, ok bool) {
	found, ok := errors.AsType[*alteredError](err)
	return ok && len(found.data) > 0, ok
}

// remove deletes exactly the Secret that was read, not one that replaced it or was changed since.
func remove(ctx context.Context, c client.Client, have *corev1.Secret) error {
	err := c.Delete(ctx, have.DeepCopy(), client.Preconditions{UID: &have.UID, ResourceVersion: &have.ResourceVersion})
	if err == nil {
		return nil
	}
	// A terminating namespace allows deletions: only a Secret that is not found needs no retry.
	return client.IgnoreNotFound(apiError("deleting", client.ObjectKeyFromObject(have), have, err))
}

// isGone reports whether an error needs no retry: the Secret is not found, or its namespace is terminating.
func isGone(err error) bool {
	return apierrors.IsNotFound(err) || apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause)
}

// apiError wraps the API server's error, so that apierrors.IsConflict and the like keep working, unless its text quotes the
// data of the Secret that was sent, or comes from a webhook, a policy or a quota. sent is nil if nothing was.
func apiError(doing string, key client.ObjectKey, sent *corev1.Secret, err error) error {
	return refusal.Fault(fmt.Sprintf("%s Secret %s", doing, key), err, func(text string) bool { return quotes(text, secretOf(sent, key)) })
}

// bindingTypes is the prefix of the types of a published login (Service Binding for Kubernetes, "Well-known Secret Entries").
const bindingTypes = "servicebinding.io/"

// secretOf leaves out values that are visible in the Secret's name, namespace and type: a database named like its Secret would
// otherwise hide every error, and with it the quota or the policy that refuses.
func secretOf(sent *corev1.Secret, key client.ObjectKey) map[string][]byte {
	out := map[string][]byte{}
	if sent == nil {
		return out
	}
	known := key.String()
	if kind := string(sent.Type); strings.HasPrefix(kind, bindingTypes) {
		known += " " + kind
	}
	for name, value := range sent.Data {
		if !strings.Contains(known, string(bytes.TrimSpace(value))) {
			out[name] = value
		}
	}
	return out
}

// quotes reports whether text shows a value, or a long word of one, plain or as base64. Values too short to be a secret are
// skipped: they occur in any text. A ledger's value is a text that contains secrets, so its words count, too. A webhook sees the
// data as base64 and may show a piece of it, or of the Secret's earlier data, which is not known here: anything that looks like
// a piece of a random value counts as one.
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

// wordsOf splits a text at characters that are not base64, and once more at those that occur only in URL-safe base64.
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

// looksRandom reports whether a word has upper-case letters, lower-case letters and digits, as passwords and base64 have and
// names do not.
func looksRandom(word string) bool {
	const shortest = 20
	return len(word) >= shortest && strings.ContainsFunc(word, unicode.IsUpper) && strings.ContainsFunc(word, unicode.IsLower) && strings.ContainsFunc(word, unicode.IsDigit)
}
