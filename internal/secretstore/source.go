// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/fault"
)

const (
	// KeyHost of an admin Secret is the address of the server that it is for.
	KeyHost = "host"
	// maxSourceBytes of one value of a source Secret, unless the reader says otherwise.
	maxSourceBytes = 64 << 10
)

// SourceValue says what is read of a source Secret.
type SourceValue struct {
	Key string
	// MaxBytes of the value; 64 KiB where it is 0.
	MaxBytes int
	// Optional values may be absent. One that is present and empty, or too long, is an error: the key is there because
	// a value was wanted.
	Optional bool
}

// ReadSource reads the named values of a Secret that rekey did not make. reader must be live: such Secrets are not cached.
// The Secret must carry the label rekey.dev/allow: "true", which is checked before anything else of it is looked at.
//
// Errors: blocked with fault.SecretNotFound, fault.SecretNotAllowed or fault.SecretInvalid; transient where the API
// server failed. None shows a value.
func ReadSource(ctx context.Context, reader client.Reader, namespace, name string, keys ...string) (credential.Material, error) {
	values := make([]SourceValue, 0, len(keys))
	for _, key := range keys {
		values = append(values, SourceValue{Key: key})
	}
	return ReadSourceValues(ctx, reader, namespace, name, values...)
}

// ReadSourceValues is ReadSource for values that differ in length or may be absent. All of them are of one state of the Secret.
func ReadSourceValues(ctx context.Context, reader client.Reader, namespace, name string, values ...SourceValue) (credential.Material, error) {
	key := client.ObjectKey{Namespace: namespace, Name: name}
	secret, err := read(ctx, reader, key)
	if err != nil {
		return nil, err
	}
	if secret == nil {
		return nil, fault.Blocked(fault.SecretNotFound, fmt.Errorf("secret %s is not there: make it with the keys %s and the label %s=true",
			key, strings.Join(requiredKeys(values), ", "), v1alpha1.LabelAllow))
	}
	if secret.Labels[v1alpha1.LabelAllow] != "true" {
		return nil, fault.Blocked(fault.SecretNotAllowed, fmt.Errorf("secret %s does not allow rekey to use it: if it should, run `kubectl -n %s label secret %s %s=true --overwrite`",
			key, namespace, name, v1alpha1.LabelAllow))
	}
	return sourceValues(secret, values)
}

func requiredKeys(values []SourceValue) []string {
	var out []string
	for _, value := range values {
		if !value.Optional {
			out = append(out, value.Key)
		}
	}
	return out
}

func sourceValues(secret *corev1.Secret, values []SourceValue) (credential.Material, error) {
	out := credential.Material{}
	for _, wanted := range values {
		value, present := secret.Data[wanted.Key]
		limit := cmp.Or(wanted.MaxBytes, maxSourceBytes)
		var problem string
		switch {
		case !present && wanted.Optional:
			continue
		case len(value) == 0 && wanted.Optional:
			problem = "is empty: put the right value there, or remove the key"
		case len(value) == 0:
			problem = "is missing or empty: put the right value there"
		case len(value) > limit:
			problem = fmt.Sprintf("is %d bytes long, and at most %d are read: put a shorter value there", len(value), limit)
		default:
			out[wanted.Key] = credential.NewSensitive(value)
			continue
		}
		return nil, fault.Blocked(fault.SecretInvalid, fmt.Errorf("secret %s: its key %s %s", client.ObjectKeyFromObject(secret), wanted.Key, problem))
	}
	return out, nil
}

// ReadAdmin reads the login (keys username and password) that administers the server at address. The Secret says itself
// which server it is for, in its key host: unless that equals address (but for white space around it), nothing is
// returned, so that nobody who may make server objects can have the password sent elsewhere. The errors are those of
// ReadSource, and blocked with fault.HostMismatch.
func ReadAdmin(ctx context.Context, reader client.Reader, namespace, name, address string) (credential.Material, error) {
	material, err := ReadSource(ctx, reader, namespace, name, KeyHost, credential.KeyUsername, credential.KeyPassword)
	if err != nil {
		return nil, err
	}
	if address == "" {
		return nil, errors.New("reading the admin Secret " + namespace + "/" + name + ": no address to compare its host with")
	}
	if strings.TrimSpace(material.String(KeyHost)) != address {
		return nil, fault.Blocked(fault.HostMismatch, fmt.Errorf("secret %s/%s is for another server: its key %s must be exactly %s; whoever may use this login there must set it",
			namespace, name, KeyHost, address))
	}
	delete(material, KeyHost)
	return material, nil
}
