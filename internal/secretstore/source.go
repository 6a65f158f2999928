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
	// KeyHost is the key of an admin Secret that holds the address of its server.
	KeyHost = "host"
	// maxSourceBytes is the maximum length of one value of a source Secret, unless the caller sets another.
	maxSourceBytes = 64 << 10
)

// SourceValue describes one value to read from a source Secret.
type SourceValue struct {
	Key string
	// MaxBytes is the maximum length of the value; 0 means 64 KiB.
	MaxBytes int
	// Optional values may be absent. A value that is present but empty, or too long, is an error: its key exists because a
	// value was intended.
	Optional bool
}

// ReadSource returns the named values of a Secret that rekey did not create. reader must be live: such Secrets are not cached.
// The Secret must have the label rekey.dev/allow: "true", which is checked before anything else.
//
// Errors: blocked with fault.SecretNotFound, fault.SecretNotAllowed or fault.SecretInvalid; transient if the API server failed.
// None shows a value.
func ReadSource(ctx context.Context, reader client.Reader, namespace, name string, keys ...string) (credential.Material, error) {
	values := make([]SourceValue, 0, len(keys))
	for _, key := range keys {
		values = append(values, SourceValue{Key: key})
	}
	return ReadSourceValues(ctx, reader, namespace, name, values...)
}

// ReadSourceValues is ReadSource for values that differ in length or may be absent. All of them come from one read.
func ReadSourceValues(ctx context.Context, reader client.Reader, namespace, name string, values ...SourceValue) (credential.Material, error) {
	key := client.ObjectKey{Namespace: namespace, Name: name}
	secret, err := read(ctx, reader, key)
	if err != nil {
		return nil, err
	}
	if secret == nil {
		return nil, fault.Blocked(fault.SecretNotFound, fmt.Errorf("secret %s not found: create it with the keys %s and the label %s=true",
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
			problem = "is empty: set it to the right value, or remove the key"
		case len(value) == 0:
			problem = "is missing or empty: set it to the right value"
		case len(value) > limit:
			problem = fmt.Sprintf("is %d bytes long, but at most %d are allowed: set it to a shorter value", len(value), limit)
		default:
			out[wanted.Key] = credential.NewSensitive(value)
			continue
		}
		return nil, fault.Blocked(fault.SecretInvalid, fmt.Errorf("secret %s: its key %s %s", client.ObjectKeyFromObject(secret), wanted.Key, problem))
	}
	return out, nil
}

// ReadAdmin returns the login (keys username and password) that administers the server at address. The Secret names its server
// in its key host: unless that equals address (ignoring surrounding white space), nothing is returned, so that a user who can
// create server objects cannot have the password sent elsewhere. The errors are those of ReadSource, and blocked with
// fault.HostMismatch.
func ReadAdmin(ctx context.Context, reader client.Reader, namespace, name, address string) (credential.Material, error) {
	material, err := ReadSource(ctx, reader, namespace, name, KeyHost, credential.KeyUsername, credential.KeyPassword)
	if err != nil {
		return nil, err
	}
	if address == "" {
		return nil, errors.New("reading the admin Secret " + namespace + "/" + name + ": no address to compare its host with")
	}
	if strings.TrimSpace(material.String(KeyHost)) != address {
		return nil, fault.Blocked(fault.HostMismatch, fmt.Errorf("secret %s/%s is for another server: its key %s must be exactly %s; set it only if this login may be used at that server",
			namespace, name, KeyHost, address))
	}
	delete(material, KeyHost)
	return material, nil
}
