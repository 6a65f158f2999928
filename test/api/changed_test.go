// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"testing"
)

// changedCase is a stored object (with) and a later change of it (to).
type changedCase struct {
	kind  string
	with  change
	to    change
	field string
}

var acceptedChanges = map[string]changedCase{
	"authority: other constraints":                   {authority, nil, change{"constraints.dnsNames": []string{"*.example"}}, ""},
	"authority: retained on deletion":                {authority, change{"deletionPolicy": "Delete"}, change{"deletionPolicy": "Retain"}, ""},
	"cluster authority: no longer for any namespace": {clusterAuthority, change{"namespaceSelector": map[string]any{}}, change{"namespaceSelector": gone}, ""},
	"client: another authority and names":            {clientIdentity, nil, change{"authorityRef.name": "other", "commonName": "other", "uris": []string{"urn:a:b"}}, ""},
	"client: a default is removed":                   {clientIdentity, change{"lifetime": "48h"}, change{"lifetime": gone}, ""},
	"client: suspended":                              {clientIdentity, nil, change{"suspend": true}, ""},
	"policy: everything":                             {policy, nil, change{"interval": "48h", "overlap.minimum": "2h", "maxAge": "72h"}, ""},
	"server object: another address":                 {server, nil, change{"address": "other:5432"}, ""},
	"login: another password":                        {databaseLogin, nil, change{"password.length": 64, "secretTemplate": map[string]any{}}, ""},
	"login: the default kind is removed":             {databaseLogin, nil, change{"serverRef.kind": gone, "serverRef.group": gone}, ""},
}

var refusedChanges = map[string]changedCase{
	"authority, changed: another Secret":              {authority, nil, change{"managed.secretName": "other"}, "spec.managed.secretName"},
	"authority, changed: the Secret removed":          {authority, nil, change{"managed.secretName": gone}, "spec.managed.secretName"},
	"authority, changed: another common name":         {authority, nil, change{"managed.commonName": "Other"}, "spec.managed"},
	"authority, changed: another lifetime":            {authority, nil, change{"managed.lifetime": "1000h"}, "spec.managed"},
	"authority, changed: another key pair":            {authority, change{"managed": gone, "keyPair": map[string]any{"secretName": "internal-ca"}}, change{"keyPair.secretName": "other"}, "spec.keyPair.secretName"},
	"authority, changed: managed becomes keyPair":     {authority, nil, change{"managed": gone, "keyPair": map[string]any{"secretName": "internal-ca"}}, "spec"},
	"authority, changed: keyPair becomes managed":     {authority, change{"managed": gone, "keyPair": map[string]any{"secretName": "internal-ca"}}, change{"keyPair": gone, "managed": map[string]any{"commonName": "Own", "secretName": "internal-ca"}}, "spec"},
	"authority, changed: the key removed":             {authority, nil, change{"managed": gone}, "spec"},
	"cluster authority, changed: another Secret":      {clusterAuthority, nil, change{"managed.secretName": "other"}, "spec.managed.secretName"},
	"cluster authority, changed: another key":         {clusterAuthority, nil, change{"managed.keyAlgorithm": "RSA-2048"}, "spec.managed"},
	"client, changed: another Secret":                 {clientIdentity, nil, change{"secretName": "other"}, "spec.secretName"},
	"client, changed: the Secret removed":             {clientIdentity, nil, change{"secretName": gone}, "spec.secretName"},
	"client, changed: the last name removed":          {clientIdentity, nil, change{"commonName": gone}, "spec"},
	"client, changed: a lifetime in days":             {clientIdentity, nil, change{"lifetime": "3d"}, "spec.lifetime"},
	"client, changed: shorter than renewBefore":       {clientIdentity, change{"renewBefore": "8h"}, change{"lifetime": "7h"}, "spec"},
	"server, changed: another Secret":                 {serverIdentity, nil, change{"secretName": "other"}, "spec.secretName"},
	"server, changed: a client's usages":              {serverIdentity, nil, change{"usages": []string{"ClientAuth"}}, "spec.usages"},
	"policy, changed: shorter than the overlap":       {policy, change{"overlap.minimum": "2h"}, change{"interval": "90m"}, "spec"},
	"policy, changed: the interval removed":           {policy, nil, change{"interval": gone}, "spec.interval"},
	"server object, changed: CA removed":              {server, nil, change{"tls.caRef": gone}, "spec.tls"},
	"server object, changed: an empty list of logins": {server, nil, change{"allowedUsernames": gone}, "spec.allowedUsernames"},
	"login, changed: another server":                  {databaseLogin, nil, change{"serverRef.name": "other"}, "spec.serverRef"},
	"login, changed: the server removed":              {databaseLogin, nil, change{"serverRef": gone}, "spec.serverRef"},
	"login, changed: the engine removed":              {databaseLogin, nil, change{"postgresql": gone}, "spec"},
	"login, changed: another database":                {databaseLogin, nil, change{"postgresql.database": "other"}, "spec.postgresql.database"},
	"login, changed: the database removed":            {databaseLogin, nil, change{"postgresql.database": gone}, "spec.postgresql.database"},
	"login, changed: another username":                {databaseLogin, nil, change{"username": "other"}, "spec.username"},
	"login, changed: the username removed":            {databaseLogin, nil, change{"username": gone}, "spec.username"},
	"login, changed: another owner":                   {databaseLogin, nil, change{"postgresql.owner": "other"}, "spec.postgresql.owner"},
	"login, changed: the owner removed":               {databaseLogin, nil, change{"postgresql.owner": gone}, "spec.postgresql.owner"},
	"login, changed: the strategy removed":            {databaseLogin, nil, change{"strategy": gone}, "spec.strategy"},
	"login, changed: another Secret":                  {databaseLogin, nil, change{"secretName": "other"}, "spec.secretName"},
	"login, changed: the Secret removed":              {databaseLogin, nil, change{"secretName": gone}, "spec.secretName"},
}

func TestAllowedChanges(t *testing.T) {
	ns := namespace(t)
	for title, tc := range acceptedChanges {
		t.Run(title, func(t *testing.T) {
			if err := changing(t, ns, tc); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestForbiddenChanges(t *testing.T) {
	ns := namespace(t)
	for title, tc := range refusedChanges {
		t.Run(title, func(t *testing.T) {
			err := changing(t, ns, tc)
			if err == nil {
				t.Fatal("stored")
			}
			said, err := words(err)
			if err != nil {
				t.Fatal(err)
			}
			mustName(t, said, tc.field)
			refusals.check(t, title, said)
		})
	}
}

// changing stores the first form of an object, and returns the API server's answer to the second.
func changing(t *testing.T, namespace string, tc changedCase) error {
	t.Helper()
	made := object(t, tc.kind, namespace, tc.with)
	if err := kube.Create(t.Context(), made); err != nil {
		t.Fatal(err)
	}
	remove(t, made.DeepCopy())
	apply(t, made, tc.to)
	return kube.Update(t.Context(), made)
}
