// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

type acceptedCase struct {
	kind string
	with change
}

var accepted = map[string]acceptedCase{
	"authority: the smallest":                {authority, nil},
	"authority: with a key pair of the user": {authority, change{"managed": gone, "keyPair": map[string]any{"secretName": "internal-ca"}}},
	"authority: every constraint": {authority, change{"constraints": map[string]any{
		"maxLifetime": "48h", "commonNames": []string{"*"}, "organizations": []string{"Example", "team-*"},
		"dnsNames": []string{"*.example.internal", "*", "db.*.svc"}, "uris": []string{"spiffe://example.internal/ns/web/*", "urn:example:a"},
		"ipRanges": []string{"10.0.0.0/8", "fd00::/8", "192.0.2.1/32"}, "emailDomains": []string{"example.com"},
		"usages": []string{"ClientAuth"},
	}}},
	"authority: the shortest lifetime":                 {authority, change{"managed.lifetime": "1h"}},
	"authority: the longest lifetime":                  {authority, change{"managed.lifetime": "876000h"}},
	"authority: deleted with its object":               {authority, change{"deletionPolicy": "Delete"}},
	"authority: an RSA key":                            {authority, change{"managed.keyAlgorithm": "RSA-4096"}},
	"authority: 64 patterns":                           {authority, change{"constraints.dnsNames": many(64, "a%d.example")}},
	"cluster authority: for no namespace":              {clusterAuthority, nil},
	"cluster authority: for every namespace":           {clusterAuthority, change{"namespaceSelector": map[string]any{}}},
	"cluster authority: for namespaces with a label":   {clusterAuthority, change{"namespaceSelector": map[string]any{"matchLabels": map[string]any{"team": "web"}}}},
	"cluster authority: for namespaces in a set":       {clusterAuthority, change{"namespaceSelector": matching("In", "web", "shop")}},
	"cluster authority: with a key pair of the user":   {clusterAuthority, change{"managed": gone, "keyPair": map[string]any{"secretName": "internal-ca"}}},
	"client: the smallest":                             {clientIdentity, nil},
	"client: a SPIFFE ID instead of a common name":     {clientIdentity, change{"commonName": gone, "uris": []string{"spiffe://example.internal/ns/web/sa/app"}}},
	"client: only a SPIFFE trust domain":               {clientIdentity, change{"uris": []string{"spiffe://example.internal"}}},
	"client: only an address":                          {clientIdentity, change{"commonName": gone, "emailAddresses": []string{"ops+app@example.com"}}},
	"client: only an IP address":                       {clientIdentity, change{"commonName": gone, "ipAddresses": []string{"fd00::1"}}},
	"client: every name":                               {clientIdentity, everyName()},
	"client: of a cluster authority":                   {clientIdentity, change{"authorityRef": map[string]any{"group": "rekey.dev", "kind": "ClusterCertificateAuthority", "name": "internal"}}},
	"client: a common name of 64 characters":           {clientIdentity, change{"commonName": strings.Repeat("a", 64)}},
	"client: a non-ASCII common name":                  {clientIdentity, change{"commonName": "Zoë & Søn"}},
	"client: minutes instead of hours":                 {clientIdentity, change{"lifetime": "90m", "renewBefore": "30m"}},
	"client: the shortest lifetime":                    {clientIdentity, change{"lifetime": "90s"}},
	"client: the shortest time to renewal":             {clientIdentity, change{"lifetime": "90s", "renewBefore": "30s"}},
	"client: a tenth of the lifetime to renewal":       {clientIdentity, change{"lifetime": "24h", "renewBefore": "21h36m"}},
	"client: the longest lifetime, renewed late":       {clientIdentity, change{"lifetime": "876000h", "renewBefore": "788400h"}},
	"policy: the earliest deadline":                    {policy, change{"interval": "30s", "overlap.minimum": "1s", "maxAge": "90s"}},
	"policy: a deadline a tenth after the interval":    {policy, change{"interval": "5h", "maxAge": "5h30m"}},
	"policy: a deadline an hour after the interval":    {policy, change{"interval": "720h", "maxAge": "721h"}},
	"client: hours, minutes and seconds":               {clientIdentity, change{"lifetime": "24h30m15s"}},
	"client: fractions of a second, as Go prints them": {clientIdentity, change{"lifetime": "2m0.5s", "renewBefore": "1500ms"}},
	"client: suspended":                                {clientIdentity, change{"suspend": true}},
	"client: a policy":                                 {clientIdentity, change{"rotationPolicyRef": map[string]any{"name": "daily"}}},
	"client: a combined file too":                      {clientIdentity, change{"formats": []string{"CombinedPEM"}}},
	"client: the key and the certificate in DER":       {clientIdentity, change{"formats": []string{"DER"}}},
	"client: keystores of the smallest kind":           {clientIdentity, change{"formats": []string{"JKS"}, "keystore": map[string]any{"passwordSecretRef": map[string]any{"name": "pw"}}}},
	"client: every format":                             {clientIdentity, change{"formats": []string{"CombinedPEM", "PKCS12", "JKS", "DER"}, "keystore": keystore(nil)}},
	"client: labels and annotations":                   {clientIdentity, change{"secretTemplate": map[string]any{"labels": map[string]any{"example.com/team": "web", "empty": "", strings.Repeat("a.", 126) + "b/c": "x"}, "annotations": map[string]any{"note": "Anything: at all\nin two lines"}}}},
	"client: an annotation of kubectl's domain":        {clientIdentity, change{"secretTemplate": map[string]any{"annotations": map[string]any{"kubectl.kubernetes.io/default-container": "app"}}}},
	"client: an Ed25519 key":                           {clientIdentity, change{"keyAlgorithm": "Ed25519"}},
	"server: the smallest":                             {serverIdentity, nil},
	"server: a wildcard name":                          {serverIdentity, change{"dnsNames": []string{"*.example.internal"}}},
	"server: a name of one label":                      {serverIdentity, change{"dnsNames": []string{"localhost"}}},
	"server: only an IP address":                       {serverIdentity, change{"dnsNames": gone, "ipAddresses": []string{"10.0.0.1"}}},
	"server: only a SPIFFE ID":                         {serverIdentity, change{"dnsNames": gone, "uris": []string{"spiffe://example.internal/db"}}},
	"server: a peer that is both":                      {serverIdentity, change{"usages": []string{"ServerAuth", "ClientAuth"}}},
	"server: 64 names":                                 {serverIdentity, change{"dnsNames": many(64, "a%d.example")}},
	"policy: the smallest":                             {policy, nil},
	"policy: everything":                               {policy, change{"interval": "24h", "jitterPercent": 0, "maxAge": "72h", "overlap": map[string]any{"minimum": "2h"}, "warnBefore": "12h", "alarmBefore": "1h", "suspend": true}},
	"policy: the shortest interval":                    {policy, change{"interval": "30s", "overlap.minimum": "1s", "warnBefore": "2s", "alarmBefore": "1s", "maxAge": "90s", "jitterPercent": 50}},
	"policy: an overlap just below the interval":       {policy, change{"interval": "2h", "overlap.minimum": "1h59m59s"}},
	"policy: an empty overlap gets its default":        {policy, change{"overlap": map[string]any{}}},
	"server object: the smallest":                      {server, nil},
	"server object: without TLS":                       {server, change{"tls": map[string]any{"mode": "Disable"}}},
	"server object: TLS without verification":          {server, change{"tls": map[string]any{"mode": "Require"}}},
	"server object: CA certificates in a Secret":       {server, change{"tls.caRef": map[string]any{"kind": "Secret", "name": "ca", "key": "bundle.pem"}}},
	"server object: an IPv4 address":                   {server, change{"address": "10.0.0.1:5432"}},
	"server object: an IPv6 address":                   {server, change{"address": "[fd00::1]:65535"}},
	"server object: any login":                         {server, change{"allowedUsernames": []string{"*"}, "postgresql.allowedOwners": []string{"*_owner", "App-1$"}}},
	"server object: its own maintenance database":      {server, change{"postgresql.maintenanceDatabase": "defaultdb-1"}},
	"server object: negative control only at first":    {server, change{"negativeControl": "AtFirst"}},
	"login: the smallest":                              {databaseLogin, nil},
	"login: everything": {databaseLogin, change{"deletionPolicy": "Delete", "suspend": true, "create": "Never",
		"serverRef": map[string]any{"group": "rekey.dev", "kind": "DatabaseServer", "name": "orders"}, "password": map[string]any{"length": 128, "alphabet": "WithSymbols"},
		"rotationPolicyRef": map[string]any{"name": "daily"}, "secretTemplate": map[string]any{"labels": map[string]any{"app": "orders"}}}},
	"login: a username of 61 characters":   {databaseLogin, change{"username": strings.Repeat("a", 61)}},
	"login: a username with capitals":      {databaseLogin, change{"username": "Orders-App.1$"}},
	"login: the shortest password":         {databaseLogin, change{"password.length": 16}},
	"login: a database name with a hyphen": {databaseLogin, change{"postgresql.database": "orders-2027"}},
}

// keystore returns spec.keystore with every field, changed.
func keystore(with map[string]any) map[string]any {
	out := map[string]any{"passwordSecretRef": map[string]any{"name": "pw", "key": "java.password"}, "alias": "Orders-1.a_b", "profile": "LegacyDES"}
	maps.Copy(out, with)
	return out
}

func TestTheAPIServerStores(t *testing.T) {
	ns := namespace(t)
	for title, tc := range accepted {
		t.Run(title, func(t *testing.T) {
			made := object(t, tc.kind, ns, tc.with)
			if err := kube.Create(t.Context(), made, client.FieldValidation("Strict")); err != nil {
				t.Fatal(err)
			}
			remove(t, made)
		})
	}
}

// A Go client writes durations and empty fields in its own way: reading an object and writing it back must be accepted, or
// the operator could not even add a finalizer.
func TestAGoClientCanWriteBackWhatIsStored(t *testing.T) {
	ns := namespace(t)
	for title, tc := range accepted {
		t.Run(title, func(t *testing.T) {
			made := object(t, tc.kind, ns, tc.with)
			if err := kube.Create(t.Context(), made); err != nil {
				t.Fatal(err)
			}
			remove(t, made)
			read := typed(t, tc.kind)
			if err := kube.Get(t.Context(), client.ObjectKeyFromObject(made), read); err != nil {
				t.Fatal(err)
			}
			before := read.DeepCopyObject()
			if err := kube.Update(t.Context(), read, client.FieldValidation("Strict")); err != nil {
				t.Fatalf("the API server refuses from a Go client what it stored before: %v", err)
			}
			if diff := cmp.Diff(specOf(t, before), specOf(t, read)); diff != "" {
				t.Errorf("written back, it changed (-stored +written):\n%s", diff)
			}
		})
	}
}

func TestNoStoredObjectCanStopAnInformer(t *testing.T) {
	ns := namespace(t)
	stored := map[string]int{}
	for title, tc := range accepted {
		made := object(t, tc.kind, ns, tc.with)
		if err := kube.Create(t.Context(), made); err != nil {
			t.Fatalf("%s: %v", title, err)
		}
		remove(t, made)
		stored[tc.kind]++
	}
	watcher, err := cache.New(config, cache.Options{Scheme: scheme, ReaderFailOnMissingInformer: true})
	if err != nil {
		t.Fatal(err)
	}
	for kind := range smallest {
		if _, err := watcher.GetInformer(t.Context(), typed(t, kind), cache.BlockUntilSynced(false)); err != nil {
			t.Fatal(err)
		}
	}
	go func() {
		if err := watcher.Start(t.Context()); err != nil {
			t.Errorf("running the informers: %v", err)
		}
	}()
	for kind, want := range stored {
		t.Run(kind, func(t *testing.T) {
			if err := kube.List(t.Context(), typedList(t, kind)); err != nil {
				t.Fatalf("a Go client cannot list: %v", err)
			}
			informer, err := watcher.GetInformer(t.Context(), typed(t, kind), cache.BlockUntilSynced(false))
			if err != nil {
				t.Fatal(err)
			}
			deadline := time.After(30 * time.Second)
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for !informer.HasSynced() {
				select {
				case <-tick.C:
				case <-deadline:
					t.Fatal("the informer did not complete its first list within 30 seconds")
				}
			}
			seen := typedList(t, kind)
			if err := watcher.List(t.Context(), seen); err != nil {
				t.Fatal(err)
			}
			if got := length(t, seen); got < want {
				t.Errorf("the informer has %d objects, want at least %d", got, want)
			}
		})
	}
}

func TestConstantsAreDefaultedInTheStoredObject(t *testing.T) {
	ns := namespace(t)
	tests := map[string]struct {
		kind string
		want map[string]any
	}{
		"authority": {authority, map[string]any{
			"deletionPolicy": "Retain",
			"managed":        map[string]any{"commonName": "Example internal CA", "keyAlgorithm": "ECDSA-P256", "lifetime": "43800h", "secretName": "internal-ca"},
			"constraints":    map[string]any{"maxLifetime": "720h", "usages": []any{"ClientAuth", "ServerAuth"}},
		}},
		"client": {clientIdentity, map[string]any{
			"deletionPolicy": "Retain", "secretName": "app-mtls", "commonName": "app", "keyAlgorithm": "ECDSA-P256", "lifetime": "24h",
			"authorityRef": map[string]any{"group": "rekey.dev", "kind": "CertificateAuthority", "name": "internal"},
		}},
		"server": {serverIdentity, map[string]any{
			"deletionPolicy": "Retain", "secretName": "app-tls", "keyAlgorithm": "ECDSA-P256", "lifetime": "24h",
			"dnsNames": []any{"app.example.internal"}, "usages": []any{"ServerAuth"},
			"authorityRef": map[string]any{"group": "rekey.dev", "kind": "CertificateAuthority", "name": "internal"},
		}},
		"policy": {policy, map[string]any{
			"interval": "24h", "jitterPercent": int64(10), "overlap": map[string]any{"minimum": "1h"}, "warnBefore": "24h", "alarmBefore": "4h",
		}},
		"server object": {server, map[string]any{
			"engine": "PostgreSQL", "address": "orders-db.data:5432", "adminSecretRef": map[string]any{"name": "orders-admin"},
			"tls":              map[string]any{"mode": "VerifyFull", "caRef": map[string]any{"kind": "ConfigMap", "name": "orders-db-ca", "key": "ca.crt"}},
			"allowedUsernames": []any{"orders_*"}, "postgresql": map[string]any{"allowedOwners": []any{"orders_owner"}}, "negativeControl": "Always",
		}},
		"login": {databaseLogin, map[string]any{
			"deletionPolicy": "Retain", "secretName": "orders-db", "username": "orders_app", "postgresql": map[string]any{"database": "orders", "owner": "orders_owner"},
			"strategy": "AlternatingUsers", "create": "Missing", "password": map[string]any{"length": int64(32), "alphabet": "Alphanumeric"},
			"serverRef": map[string]any{"group": "rekey.dev", "kind": "DatabaseServer", "name": "orders"},
		}},
	}
	for title, tc := range tests {
		t.Run(title, func(t *testing.T) {
			made := object(t, tc.kind, ns, nil)
			if err := kube.Create(t.Context(), made); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, made.Object["spec"]); diff != "" {
				t.Errorf("the stored object differs (-want +got):\n%s", diff)
			}
		})
	}
}

// An object created in Go, without any field that has a default, must get the defaults too and not Go's zero values.
func TestAGoClientThatOmitsFieldsGetsTheDefaults(t *testing.T) {
	ns := namespace(t)
	for kind := range smallest {
		t.Run(kind, func(t *testing.T) {
			byHand := object(t, kind, ns, nil)
			if err := kube.Create(t.Context(), byHand); err != nil {
				t.Fatal(err)
			}
			remove(t, byHand)
			byGo := typed(t, kind)
			decode(t, object(t, kind, ns, nil), byGo)
			if err := kube.Create(t.Context(), byGo); err != nil {
				t.Fatalf("refused from a Go client: %v", err)
			}
			remove(t, byGo)
			want := typed(t, kind)
			decode(t, byHand, want)
			if diff := cmp.Diff(specOf(t, want), specOf(t, byGo)); diff != "" {
				t.Errorf("a Go client stores something else (-YAML +Go):\n%s", diff)
			}
		})
	}
}

func TestAStrictClientCannotSetAFieldThatDoesNotExist(t *testing.T) {
	ns := namespace(t)
	for kind := range smallest {
		t.Run(kind, func(t *testing.T) {
			strict := object(t, kind, ns, change{"notAField": "x"})
			err := kube.Create(t.Context(), strict, client.FieldValidation("Strict"))
			if !apierrors.IsBadRequest(err) || !strings.Contains(err.Error(), `unknown field "spec.notAField"`) {
				t.Errorf("want a refusal that names spec.notAField, got %v", err)
			}
			loose := object(t, kind, ns, change{"notAField": "x"})
			if err := kube.Create(t.Context(), loose); err != nil {
				t.Fatal(err)
			}
			remove(t, loose)
			if _, kept, _ := unstructured.NestedFieldNoCopy(loose.Object, "spec", "notAField"); kept {
				t.Error("a field that does not exist was stored")
			}
		})
	}
}
