// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/pki"
	"github.com/rekey/rekey/internal/refusal"
	"github.com/rekey/rekey/internal/report"
	"github.com/rekey/rekey/internal/secretstore"
)

// resolveServer converts a DatabaseServer and what it refers to into plain values. digest changes with any of them. It reads
// the admin Secret live every time, and uses it only if the Secret names this server.
func (s *shared) resolveServer(ctx context.Context, object *v1alpha1.DatabaseServer) (server database.Server, digest string, err error) {
	host, port, err := splitAddress(object.Spec.Address)
	if err != nil {
		return server, "", err
	}
	if object.Spec.EngineSettings() == nil {
		return server, "", fault.Permanent(fault.EngineMismatch, fmt.Errorf(
			"spec has no block for engine %s: add spec.%s as in docs/databaseserver.md", object.Spec.Engine, strings.ToLower(string(object.Spec.Engine))))
	}
	server = database.Server{
		Host: host, Port: port, TLS: database.TLSMode(object.Spec.TLS.Mode), AllowLoopback: s.allowLoopback,
		AllowedUsernames: texts(object.Spec.AllowedUsernames), NegativeControl: database.NegativeControl(object.Spec.NegativeControl),
	}
	if server.Settings, err = engineSettings(object.Spec.EngineSettings()); err != nil {
		return server, "", err
	}
	if server.CA, err = s.readBundle(ctx, object.Namespace, object.Spec.TLS.CARef); err != nil {
		return server, "", err
	}
	admin, err := secretstore.ReadAdmin(ctx, s.live, object.Namespace, string(object.Spec.AdminSecretRef.Name), object.Spec.Address)
	if err != nil {
		return server, "", err
	}
	server.Admin = database.Admin{Username: admin.String(credential.KeyUsername), Password: admin[credential.KeyPassword],
		Secret: object.Namespace + "/" + string(object.Spec.AdminSecretRef.Name)}
	return server, serverDigest(object, server, serverState(object)), nil
}

// serverState returns what can make a failed step succeed: the server's spec, and that it is Ready. Any other change of its
// status while it is broken does not justify a retry.
func serverState(object *v1alpha1.DatabaseServer) string {
	return fmt.Sprint(object.Generation, report.IsReady(object))
}

// serverDigest distinguishes two resolved servers without revealing anything.
func serverDigest(object *v1alpha1.DatabaseServer, server database.Server, version string) string {
	h := sha256.New()
	_, _ = fmt.Fprintf(h, "%s %s %q ", object.UID, version, server.Admin.Username)
	_, _ = h.Write(server.Admin.Password.Reveal())
	_, _ = h.Write(server.CA)
	return hex.EncodeToString(h.Sum(nil))
}

func splitAddress(address string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(address)
	if err == nil {
		port, err = strconv.Atoi(text)
	}
	if err != nil || port < 1 || port > 65535 {
		return "", 0, fault.Permanent(fault.ServerUnreachable, fmt.Errorf("spec.address %q must be host:port with a port from 1 to 65535", address))
	}
	return host, port, nil
}

// readBundle reads CA certificates, with the same limits from a Secret and from a ConfigMap. It never shows what else is stored there.
func (s *shared) readBundle(ctx context.Context, namespace string, ref *v1alpha1.CAReference) ([]byte, error) {
	if ref == nil {
		return nil, nil
	}
	at := client.ObjectKey{Namespace: namespace, Name: string(ref.Name)}
	var data []byte
	if ref.Kind == v1alpha1.CASourceSecret {
		found, err := secretstore.ReadSourceValues(ctx, s.live, at.Namespace, at.Name, secretstore.SourceValue{Key: ref.Key, MaxBytes: pki.MaxCertificateBytes})
		if err != nil {
			return nil, err
		}
		data = found[ref.Key].Reveal()
	} else {
		var err error
		if data, err = s.readConfigMap(ctx, at, ref.Key); err != nil {
			return nil, err
		}
	}
	bundle, err := pki.ParseBundle(data)
	if err != nil {
		return nil, fault.Blocked(fault.ReasonOf(err, fault.SecretInvalid), fmt.Errorf("%s %s: its key %s %w", ref.Kind, at, ref.Key, err))
	}
	return pki.EncodeCertificates(bundle.Certificates...), nil
}

// readConfigMap reads one value. kubectl stores data that is not UTF-8 under binaryData.
func (s *shared) readConfigMap(ctx context.Context, at client.ObjectKey, key string) ([]byte, error) {
	var object corev1.ConfigMap
	err := s.live.Get(ctx, at, &object)
	if apierrors.IsNotFound(err) {
		return nil, fault.Blocked(fault.SecretNotFound, fmt.Errorf(
			"ConfigMap %s not found: create it with the CA certificates of the server under key %s", at, key))
	}
	if err != nil {
		return nil, refusal.Fault("reading ConfigMap "+at.String(), err, nil)
	}
	if text, ok := object.Data[key]; ok {
		return []byte(text), nil
	}
	if data, ok := object.BinaryData[key]; ok {
		return data, nil
	}
	return nil, fault.Blocked(fault.SecretInvalid, fmt.Errorf("ConfigMap %s: its key %s is missing: put the CA certificates of the server there, in PEM", at, key))
}

// findServer returns the server that ref names.
func (s *shared) findServer(ctx context.Context, namespace string, ref v1alpha1.ServerReference) (*v1alpha1.DatabaseServer, error) {
	var object v1alpha1.DatabaseServer
	err := s.client.Get(ctx, client.ObjectKey{Namespace: namespace, Name: string(ref.Name)}, &object)
	if apierrors.IsNotFound(err) {
		return nil, fault.Blocked(fault.ServerNotFound, fmt.Errorf(
			"DatabaseServer %s/%s not found: create it, or create a new object with another spec.serverRef", namespace, ref.Name))
	}
	if err != nil {
		return nil, refusal.Fault(fmt.Sprintf("reading DatabaseServer %s/%s", namespace, ref.Name), err, nil)
	}
	return &object, nil
}

// engineSettings encodes an engine's block in a spec; only the engine interprets it.
func engineSettings(block any) ([]byte, error) {
	if block == nil {
		return nil, nil
	}
	settings, err := json.Marshal(block)
	if err != nil {
		return nil, fmt.Errorf("encoding the engine's settings: %w", err)
	}
	return settings, nil
}

// engineOf returns the implementation of an engine.
func (s *shared) engineOf(engine v1alpha1.Engine) (database.Engine, error) {
	found := s.engines[engine]
	if found == nil {
		return nil, fault.Permanent(fault.ServerUnsupported, fmt.Errorf("this build does not support engine %s", engine))
	}
	return found, nil
}

func textHash(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}
