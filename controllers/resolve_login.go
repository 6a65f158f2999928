// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package controllers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/database"
	"github.com/rekey/rekey/internal/fault"
	"github.com/rekey/rekey/internal/secretstore"
)

// errNotProven is why an address is not shown yet.
var errNotProven = errors.New("the login has not been proven at this address yet")

// databaseLogin is one credential and everything that one reconcile resolved for it.
type databaseLogin struct {
	object *v1alpha1.DatabaseCredential
	// server is nil if it does not exist. resolved holds the values of the server and its references, or resolveErr is set.
	server     *v1alpha1.DatabaseServer
	resolved   database.Server
	digest     string
	resolveErr error
	// shape follows from the spec alone; shapeErr is set if there is none.
	shape     database.Shape
	shapeErr  error
	session   database.Session
	policy    resolvedPolicy
	policyErr error
	// shown is true if nothing has to be proven before it can be shown.
	shown bool
}

// resolve finds the server and the policy and opens a session. It does not contact the server yet.
func (r *credentialReconciler) resolve(ctx context.Context, object *v1alpha1.DatabaseCredential) *databaseLogin {
	login := &databaseLogin{object: object}
	login.policy, login.policyErr = resolvePolicy(ctx, r.client, object.Namespace, object.Spec.RotationPolicyRef)
	engine, target, err := r.targetOf(object)
	if err == nil {
		login.shape, err = engine.Shape(target)
	}
	if err != nil {
		login.shapeErr, login.resolveErr = err, err
		return login
	}
	if login.server, login.resolveErr = r.findServer(ctx, object.Namespace, object.Spec.ServerRef); login.resolveErr != nil {
		return login
	}
	if login.resolveErr = engineFits(object, login.server); login.resolveErr != nil {
		return login
	}
	if login.resolved, login.digest, login.resolveErr = r.resolveServer(ctx, login.server); login.resolveErr != nil {
		login.resolveErr = fmt.Errorf("DatabaseServer %s/%s: %w", object.Namespace, login.server.Name, login.resolveErr)
		return login
	}
	login.session, login.resolveErr = engine.Open(ctx, login.resolved, target)
	return login
}

// engineFits returns an error if the credential has no block for the engine of its server.
func engineFits(object *v1alpha1.DatabaseCredential, server *v1alpha1.DatabaseServer) error {
	block, engine := strings.ToLower(string(server.Spec.Engine)), server.Spec.Engine
	switch {
	case object.Spec.EngineSettings() == nil:
		return fault.Permanent(fault.EngineMismatch, fmt.Errorf(
			"spec has no block for engine %s of DatabaseServer %s/%s: add spec.%s as in docs/databasecredential.md", engine, object.Namespace, server.Name, block))
	case object.Spec.Engine() != engine:
		return fault.Permanent(fault.EngineMismatch, fmt.Errorf(
			"spec has the block of engine %s, but DatabaseServer %s/%s has engine %s: create a new object with spec.%s", object.Spec.Engine(), object.Namespace, server.Name, engine, block))
	default:
		return nil
	}
}

// targetOf returns what the spec requests, and its engine.
func (r *credentialReconciler) targetOf(object *v1alpha1.DatabaseCredential) (database.Engine, database.Target, error) {
	spec := object.Spec
	engine, err := r.engineOf(object.Spec.Engine())
	if err != nil {
		return nil, database.Target{}, err
	}
	settings, err := engineSettings(spec.EngineSettings())
	return engine, database.Target{
		Settings: settings, Username: spec.Username, Strategy: database.Strategy(spec.Strategy), Create: spec.Create != v1alpha1.CreateNever,
		PasswordLength: int(spec.Password.Length), PasswordAlphabet: string(spec.Password.Alphabet),
	}, err
}

// passwordFingerprint identifies what the spec requires of a password.
func passwordFingerprint(spec v1alpha1.PasswordSpec) string {
	return fmt.Sprintf("password/%d/%s", spec.Length, spec.Alphabet)
}

// endpoint identifies the server by its address and how the connection is protected.
func (l *databaseLogin) endpoint() string {
	if l.server == nil {
		return ""
	}
	return fmt.Sprint(l.server.UID, l.server.Spec.Address, l.server.Spec.TLS.Mode, textHash(string(l.resolved.CA)))
}

// bindingOf returns the data of the user's Secret. A published login keeps the address beside it until it is proven at a new
// one. If the server or something it refers to is missing, only the login is known.
func bindingOf(login *databaseLogin, m credential.Material, proven bool) (map[string][]byte, error) {
	known := map[string][]byte{
		credential.KeyUsername: m[credential.KeyUsername].Reveal(), credential.KeyPassword: m[credential.KeyPassword].Reveal(),
	}
	reachable := login.server != nil && login.resolved.Host != "" && (login.server.Spec.TLS.CARef == nil || login.resolved.CA != nil)
	if !reachable {
		return nil, &secretstore.PartialError{Err: login.resolveErr, Known: known}
	}
	data := login.shape.Bind(login.resolved, m)
	if proven && login.resolveErr == nil {
		return data, nil
	}
	return nil, &secretstore.PartialError{Err: errNotProven, Known: known, Otherwise: data}
}

// derivedLogins are the logins that are derived from the spec, by slot; the slot is empty if the source has only one.
type derivedLogins map[string]string

// check compares the slots and logins of a ledger with those derived from the spec.
func (d derivedLogins) check(ledger secretstore.Ledger) error {
	for name, record := range ledger.Records() {
		login, ok := d[record.Slot]
		if named := record.Material.String(credential.KeyUsername); !ok || named != "" && named != login {
			return fmt.Errorf("its %s version names a login or a slot that is not derived from the spec (those are %s), so rekey does not use the ledger",
				name, strings.Join(slices.Sorted(maps.Values(d)), " and "))
		}
	}
	return nil
}

// candidate reads a login from a user's Secret, if it is derived from the spec.
func (d derivedLogins) candidate(data map[string][]byte) (string, credential.Material, bool) {
	username, password := data[credential.KeyUsername], data[credential.KeyPassword]
	for slot, login := range d {
		if login == string(username) && len(password) > 0 {
			return slot, credential.Material{
				credential.KeyUsername: credential.NewSensitive(username), credential.KeyPassword: credential.NewSensitive(password),
			}, true
		}
	}
	return "", nil, false
}
