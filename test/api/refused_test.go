// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package api

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// refusedCase is an object that is not stored. The message is in the golden file, and names field.
type refusedCase struct {
	kind  string
	with  change
	field string
}

var refused = map[string]refusedCase{
	"authority: neither managed nor keyPair":              {authority, change{"managed": gone}, "spec"},
	"authority: both managed and keyPair":                 {authority, change{"keyPair": map[string]any{"secretName": "internal-ca"}}, "spec"},
	"authority: no constraints":                           {authority, change{"constraints": gone}, "spec.constraints"},
	"authority: no Secret":                                {authority, change{"managed.secretName": gone}, "spec.managed.secretName"},
	"authority: a key pair without a Secret":              {authority, change{"managed": gone, "keyPair": map[string]any{}}, "spec.keyPair.secretName"},
	"authority: a Secret in another namespace":            {authority, change{"managed.secretName": "other/internal-ca"}, "spec.managed.secretName"},
	"authority: no common name":                           {authority, change{"managed.commonName": gone}, "spec.managed.commonName"},
	"authority: a common name that is too long":           {authority, change{"managed.commonName": strings.Repeat("a", 65)}, "spec.managed.commonName"},
	"authority: a common name with a NUL":                 {authority, change{"managed.commonName": "a\x00b"}, "spec.managed.commonName"},
	"authority: an unknown algorithm":                     {authority, change{"managed.keyAlgorithm": "DSA"}, "spec.managed.keyAlgorithm"},
	"authority: a lifetime that is too short":             {authority, change{"managed.lifetime": "59m"}, "spec.managed.lifetime"},
	"authority: a lifetime that is too long":              {authority, change{"managed.lifetime": "876001h"}, "spec.managed.lifetime"},
	"authority: a key pair of the user cannot be deleted": {authority, change{"managed": gone, "keyPair": map[string]any{"secretName": "internal-ca"}, "deletionPolicy": "Delete"}, "spec"},
	"authority: an unknown deletion policy":               {authority, change{"deletionPolicy": "Orphan"}, "spec.deletionPolicy"},
	"authority: a maximum lifetime below a minute":        {authority, change{"constraints.maxLifetime": "59s"}, "spec.constraints.maxLifetime"},
	"authority: an empty common name pattern":             {authority, change{"constraints.commonNames": []string{""}}, "spec.constraints.commonNames[0]"},
	"authority: a star inside a DNS label":                {authority, change{"constraints.dnsNames": []string{"a*.example"}}, "spec.constraints.dnsNames[0]"},
	"authority: an uppercase DNS pattern":                 {authority, change{"constraints.dnsNames": []string{"*.Example"}}, "spec.constraints.dnsNames[0]"},
	"authority: a duplicate DNS pattern":                  {authority, change{"constraints.dnsNames": []string{"a", "a"}}, "spec.constraints.dnsNames[1]"},
	"authority: 65 DNS patterns":                          {authority, change{"constraints.dnsNames": many(65, "a%d.example")}, "spec.constraints.dnsNames"},
	"authority: a star inside a URI":                      {authority, change{"constraints.uris": []string{"spiffe://example/*/sa"}}, "spec.constraints.uris[0]"},
	"authority: a star for a part of a segment":           {authority, change{"constraints.uris": []string{"spiffe://example/sa*"}}, "spec.constraints.uris[0]"},
	"authority: a URI pattern without a scheme":           {authority, change{"constraints.uris": []string{"//example/*"}}, "spec.constraints.uris[0]"},
	"authority: an address instead of a network":          {authority, change{"constraints.ipRanges": []string{"10.0.0.1"}}, "spec.constraints.ipRanges[0]"},
	"authority: an e-mail domain with an @":               {authority, change{"constraints.emailDomains": []string{"@example.com"}}, "spec.constraints.emailDomains[0]"},
	"authority: no usage":                                 {authority, change{"constraints.usages": []string{}}, "spec.constraints.usages"},
	"authority: an unknown usage":                         {authority, change{"constraints.usages": []string{"CodeSigning"}}, "spec.constraints.usages[0]"},
	"cluster authority: neither managed nor keyPair":      {clusterAuthority, change{"managed": gone}, "spec"},
	"cluster authority: an unknown operator":              {clusterAuthority, change{"namespaceSelector": matching("Equals", "web")}, "spec.namespaceSelector"},
	"cluster authority: a set without members":            {clusterAuthority, change{"namespaceSelector": matching("In")}, "spec.namespaceSelector"},
	"cluster authority: existence with values":            {clusterAuthority, change{"namespaceSelector": matching("Exists", "web")}, "spec.namespaceSelector"},
	"cluster authority: a malformed selector":             {clusterAuthority, change{"namespaceSelector": "all"}, "spec.namespaceSelector"},

	"client: no authority":                          {clientIdentity, change{"authorityRef": gone}, "spec.authorityRef"},
	"client: an authority without a name":           {clientIdentity, change{"authorityRef": map[string]any{}}, "spec.authorityRef.name"},
	"client: an authority of another group":         {clientIdentity, change{"authorityRef.group": "cert-manager.io"}, "spec.authorityRef.group"},
	"client: an authority of another kind":          {clientIdentity, change{"authorityRef.kind": "Issuer"}, "spec.authorityRef.kind"},
	"client: an invalid name of an authority":       {clientIdentity, change{"authorityRef.name": "Internal_CA"}, "spec.authorityRef.name"},
	"client: no name at all":                        {clientIdentity, change{"commonName": gone}, "spec"},
	"client: only empty lists of names":             {clientIdentity, change{"commonName": gone, "uris": []string{}, "dnsNames": []string{}}, "spec"},
	"client: an empty common name":                  {clientIdentity, change{"commonName": ""}, "spec.commonName"},
	"client: a common name of 65 characters":        {clientIdentity, change{"commonName": strings.Repeat("a", 65)}, "spec.commonName"},
	"client: a common name with a line break":       {clientIdentity, change{"commonName": "app\nroot"}, "spec.commonName"},
	"client: an empty organization":                 {clientIdentity, change{"organizations": []string{""}}, "spec.organizations[0]"},
	"client: an organization with a tab":            {clientIdentity, change{"organizations": []string{"a\tb"}}, "spec.organizations[0]"},
	"client: a duplicate organization":              {clientIdentity, change{"organizations": []string{"a", "a"}}, "spec.organizations[1]"},
	"client: 17 organizations":                      {clientIdentity, change{"organizations": many(17, "o%d")}, "spec.organizations"},
	"client: a DNS name with an underscore":         {clientIdentity, change{"dnsNames": []string{"a_b.example"}}, "spec.dnsNames[0]"},
	"client: a DNS name with a trailing dot":        {clientIdentity, change{"dnsNames": []string{"app.example."}}, "spec.dnsNames[0]"},
	"client: a DNS label of 64 characters":          {clientIdentity, change{"dnsNames": []string{strings.Repeat("a", 64) + ".example"}}, "spec.dnsNames[0]"},
	"client: a DNS name of 254 characters":          {clientIdentity, change{"dnsNames": []string{strings.Repeat("a.", 126) + "aa"}}, "spec.dnsNames[0]"},
	"client: a star that is not the first label":    {clientIdentity, change{"dnsNames": []string{"a.*.example"}}, "spec.dnsNames[0]"},
	"client: a URI without a scheme":                {clientIdentity, change{"uris": []string{"example.com/app"}}, "spec.uris[0]"},
	"client: a URI with a space":                    {clientIdentity, change{"uris": []string{"https://example.com/a b"}}, "spec.uris[0]"},
	"client: a non-ASCII URI":                       {clientIdentity, change{"uris": []string{"https://example.com/ü"}}, "spec.uris[0]"},
	"client: a URI with a bad escape":               {clientIdentity, change{"uris": []string{"https://example.com/%zz"}}, "spec.uris[0]"},
	"client: a SPIFFE ID with a trailing slash":     {clientIdentity, change{"uris": []string{"spiffe://example.internal/app/"}}, "spec.uris[0]"},
	"client: a SPIFFE ID with an empty segment":     {clientIdentity, change{"uris": []string{"spiffe://example.internal//app"}}, "spec.uris[0]"},
	"client: a SPIFFE ID with dot segments":         {clientIdentity, change{"uris": []string{"spiffe://example.internal/ns/../app"}}, "spec.uris[0]"},
	"client: a SPIFFE ID with a port":               {clientIdentity, change{"uris": []string{"spiffe://example.internal:8443/app"}}, "spec.uris[0]"},
	"client: a SPIFFE ID with a query":              {clientIdentity, change{"uris": []string{"spiffe://example.internal/app?x=1"}}, "spec.uris[0]"},
	"client: an uppercase SPIFFE trust domain":      {clientIdentity, change{"uris": []string{"spiffe://Example/app"}}, "spec.uris[0]"},
	"client: an IP address with a mask":             {clientIdentity, change{"ipAddresses": []string{"10.0.0.1/32"}}, "spec.ipAddresses[0]"},
	"client: an IP address with leading zeros":      {clientIdentity, change{"ipAddresses": []string{"010.0.0.1"}}, "spec.ipAddresses[0]"},
	"client: an e-mail address with a name":         {clientIdentity, change{"emailAddresses": []string{"Ops <ops@example.com>"}}, "spec.emailAddresses[0]"},
	"client: an e-mail address without a domain":    {clientIdentity, change{"emailAddresses": []string{"ops"}}, "spec.emailAddresses[0]"},
	"client: an unknown algorithm":                  {clientIdentity, change{"keyAlgorithm": "RSA-1024"}, "spec.keyAlgorithm"},
	"client: a lifetime below a minute and a half":  {clientIdentity, change{"lifetime": "89s"}, "spec.lifetime"},
	"client: a lifetime in days":                    {clientIdentity, change{"lifetime": "3d"}, "spec.lifetime"},
	"client: a lifetime that is a number":           {clientIdentity, change{"lifetime": 3600}, "spec.lifetime"},
	"client: renewed before its start":              {clientIdentity, change{"lifetime": "8h", "renewBefore": "8h"}, "spec"},
	"client: renewed before its start, by default":  {clientIdentity, change{"renewBefore": "25h"}, "spec"},
	"client: renewed a second after its start":      {clientIdentity, change{"lifetime": "24h", "renewBefore": "23h59m59s"}, "spec"},
	"client: renewed too soon by a second":          {clientIdentity, change{"lifetime": "24h", "renewBefore": "21h36m1s"}, "spec"},
	"client: renewed too soon by half a second":     {clientIdentity, change{"lifetime": "24h", "renewBefore": "21h36m0.5s"}, "spec"},
	"client: renewed within a minute":               {clientIdentity, change{"lifetime": "2m", "renewBefore": "1m1s"}, "spec"},
	"server: renewed a second after its start":      {serverIdentity, change{"lifetime": "876000h", "renewBefore": "875999h59m59s"}, "spec"},
	"client: two invalid durations":                 {clientIdentity, change{"lifetime": "1d", "renewBefore": "8 hours"}, "spec.lifetime"},
	"client: no Secret":                             {clientIdentity, change{"secretName": gone}, "spec.secretName"},
	"client: an uppercase name of a Secret":         {clientIdentity, change{"secretName": "App"}, "spec.secretName"},
	"client: a policy without a name":               {clientIdentity, change{"rotationPolicyRef": map[string]any{"name": ""}}, "spec.rotationPolicyRef.name"},
	"client: an unknown format":                     {clientIdentity, change{"formats": []string{"PKCS7"}}, "spec.formats[0]"},
	"client: PKCS12 without a password":             {clientIdentity, change{"formats": []string{"PKCS12"}}, "spec"},
	"client: JKS without a password":                {clientIdentity, change{"formats": []string{"DER", "JKS"}}, "spec"},
	"client: a keystore without a format":           {clientIdentity, change{"keystore": map[string]any{"passwordSecretRef": map[string]any{"name": "pw"}}}, "spec"},
	"client: a keystore with other formats":         {clientIdentity, change{"formats": []string{"CombinedPEM", "DER"}, "keystore": map[string]any{"passwordSecretRef": map[string]any{"name": "pw"}}}, "spec"},
	"client: a profile of PKCS12 with JKS":          {clientIdentity, change{"formats": []string{"JKS"}, "keystore": keystore(nil)}, "spec"},
	"client: an alias for JKS with PKCS12":          {clientIdentity, change{"formats": []string{"PKCS12"}, "keystore": keystore(nil)}, "spec"},
	"client: an unknown profile":                    {clientIdentity, change{"formats": []string{"PKCS12", "JKS"}, "keystore": keystore(map[string]any{"profile": "LegacyRC2"})}, "spec.keystore.profile"},
	"client: an alias with a blank":                 {clientIdentity, change{"formats": []string{"PKCS12", "JKS"}, "keystore": keystore(map[string]any{"alias": "my key"})}, "spec.keystore.alias"},
	"client: an empty alias":                        {clientIdentity, change{"formats": []string{"PKCS12", "JKS"}, "keystore": keystore(map[string]any{"alias": ""})}, "spec.keystore.alias"},
	"client: a keystore without a Secret":           {clientIdentity, change{"formats": []string{"PKCS12"}, "keystore": map[string]any{}}, "spec.keystore.passwordSecretRef"},
	"client: a password without the Secret's name":  {clientIdentity, change{"formats": []string{"PKCS12", "JKS"}, "keystore": keystore(map[string]any{"passwordSecretRef": map[string]any{"key": "password"}})}, "spec.keystore.passwordSecretRef.name"},
	"client: a password under an impossible key":    {clientIdentity, change{"formats": []string{"PKCS12", "JKS"}, "keystore": keystore(map[string]any{"passwordSecretRef": map[string]any{"name": "pw", "key": "a/b"}})}, "spec.keystore.passwordSecretRef.key"},
	"client: a format twice":                        {clientIdentity, change{"formats": []string{"DER", "DER"}}, "spec.formats[1]"},
	"client: a reserved label":                      {clientIdentity, change{"secretTemplate": map[string]any{"labels": map[string]any{"rekey.dev/kind": "x"}}}, "spec.secretTemplate.labels"},
	"client: the reserved label for the owner":      {clientIdentity, change{"secretTemplate": map[string]any{"labels": map[string]any{"app.kubernetes.io/managed-by": "me"}}}, "spec.secretTemplate.labels"},
	"client: a label with a bad name":               {clientIdentity, change{"secretTemplate": map[string]any{"labels": map[string]any{"a b": "x"}}}, "spec.secretTemplate.labels"},
	"client: a label prefix with two dots":          {clientIdentity, change{"secretTemplate": map[string]any{"labels": map[string]any{"a..b/c": "x"}}}, "spec.secretTemplate.labels"},
	"client: a label prefix that is not a DNS name": {clientIdentity, change{"secretTemplate": map[string]any{"labels": map[string]any{"a-.b/c": "x"}}}, "spec.secretTemplate.labels"},
	"login: an annotation prefix that is too long":  {databaseLogin, change{"secretTemplate": map[string]any{"annotations": map[string]any{strings.Repeat("a", 254) + "/c": "x"}}}, "spec.secretTemplate.annotations"},
	"login: an annotation prefix with a space":      {databaseLogin, change{"secretTemplate": map[string]any{"annotations": map[string]any{"a .b/c": "x"}}}, "spec.secretTemplate.annotations"},
	"client: a label with a bad value":              {clientIdentity, change{"secretTemplate": map[string]any{"labels": map[string]any{"a": "x y"}}}, "spec.secretTemplate.labels[a]"},
	"client: the annotation of kubectl apply":       {clientIdentity, change{"secretTemplate": map[string]any{"annotations": map[string]any{"kubectl.kubernetes.io/last-applied-configuration": "{}"}}}, "spec.secretTemplate.annotations"},
	"login: the annotation of kubectl apply":        {databaseLogin, change{"secretTemplate": map[string]any{"annotations": map[string]any{"note": "x", "kubectl.kubernetes.io/last-applied-configuration": ""}}}, "spec.secretTemplate.annotations"},
	"client: a reserved annotation":                 {clientIdentity, change{"secretTemplate": map[string]any{"annotations": map[string]any{"rekey.dev/revision": "9"}}}, "spec.secretTemplate.annotations"},
	"client: suspend as a string":                   {clientIdentity, change{"suspend": "yes"}, "spec.suspend"},

	"server: only a common name":               {serverIdentity, change{"dnsNames": gone, "commonName": "app.example.internal"}, "spec"},
	"server: only an e-mail address":           {serverIdentity, change{"dnsNames": gone, "emailAddresses": []string{"ops@example.com"}}, "spec"},
	"server: 65 names":                         {serverIdentity, change{"dnsNames": many(65, "a%d.example")}, "spec.dnsNames"},
	"server: client usages":                    {serverIdentity, change{"usages": []string{"ClientAuth"}}, "spec.usages"},
	"server: no usage":                         {serverIdentity, change{"usages": []string{}}, "spec.usages"},
	"server: a wildcard for a whole top level": {serverIdentity, change{"dnsNames": []string{"*"}}, "spec.dnsNames[0]"},

	"policy: no interval":                                {policy, change{"interval": gone}, "spec.interval"},
	"policy: an interval below 30 seconds":               {policy, change{"interval": "29s", "overlap.minimum": "1s"}, "spec.interval"},
	"policy: an interval in weeks":                       {policy, change{"interval": "1w"}, "spec.interval"},
	"policy: an overlap as long as the interval":         {policy, change{"interval": "2h", "overlap.minimum": "2h"}, "spec"},
	"policy: an interval as long as the default overlap": {policy, change{"interval": "1h"}, "spec"},
	"policy: an overlap of zero":                         {policy, change{"overlap.minimum": "0s"}, "spec.overlap.minimum"},
	"policy: a maximum age within the interval":          {policy, change{"maxAge": "24h"}, "spec"},
	"policy: a maximum age a second after the interval":  {policy, change{"maxAge": "24h0m1s"}, "spec"},
	"policy: a maximum age half an hour after a day":     {policy, change{"maxAge": "24h59m59s"}, "spec"},
	"policy: a maximum age within a minute":              {policy, change{"interval": "30s", "overlap.minimum": "1s", "maxAge": "1m29s"}, "spec"},
	"policy: an alarm before the warning":                {policy, change{"warnBefore": "1h", "alarmBefore": "2h"}, "spec"},
	"policy: an alarm before the default warning":        {policy, change{"alarmBefore": "24h"}, "spec"},
	"policy: jitter of more than half":                   {policy, change{"jitterPercent": 51}, "spec.jitterPercent"},
	"policy: negative jitter":                            {policy, change{"jitterPercent": -1}, "spec.jitterPercent"},

	"server object: an unknown engine":                     {server, change{"engine": "MySQL"}, "spec.engine"},
	"server object: no engine":                             {server, change{"engine": gone}, "spec.engine"},
	"server object: no address":                            {server, change{"address": gone}, "spec.address"},
	"server object: no port":                               {server, change{"address": "orders-db.data"}, "spec.address"},
	"server object: port 0":                                {server, change{"address": "orders-db.data:0"}, "spec.address"},
	"server object: port 65536":                            {server, change{"address": "orders-db.data:65536"}, "spec.address"},
	"server object: a URI":                                 {server, change{"address": "postgres://orders-db.data:5432"}, "spec.address"},
	"server object: an IPv6 address without brackets":      {server, change{"address": "fd00::1:5432"}, "spec.address"},
	"server object: an invalid IPv6 address":               {server, change{"address": "[::::]:5432"}, "spec.address"},
	"server object: a host with a password":                {server, change{"address": "admin:secret@db:5432"}, "spec.address"},
	"server object: a maintenance database with a quote":   {server, change{"postgresql.maintenanceDatabase": `a"b`}, "spec.postgresql.maintenanceDatabase"},
	"server object: a maintenance database without a name": {server, change{"postgresql.maintenanceDatabase": ""}, "spec.postgresql.maintenanceDatabase"},
	"server object: an unknown negative control":           {server, change{"negativeControl": "Never"}, "spec.negativeControl"},
	"server object: verified without CA certificates":      {server, change{"tls": map[string]any{"mode": "VerifyFull"}}, "spec.tls"},
	"server object: no TLS mode":                           {server, change{"tls": gone}, "spec.tls"},
	"server object: unused CA certificates":                {server, change{"tls.mode": "Require"}, "spec.tls"},
	"server object: a TLS mode of libpq":                   {server, change{"tls.mode": "verify-full"}, "spec.tls.mode"},
	"server object: CA certificates in a Pod":              {server, change{"tls.caRef.kind": "Pod"}, "spec.tls.caRef.kind"},
	"server object: a key with a slash":                    {server, change{"tls.caRef.key": "../ca.crt"}, "spec.tls.caRef.key"},
	"server object: no admin":                              {server, change{"adminSecretRef": gone}, "spec.adminSecretRef"},
	"server object: no allowed logins":                     {server, change{"allowedUsernames": gone}, "spec.allowedUsernames"},
	"server object: an empty list of logins":               {server, change{"allowedUsernames": []string{}}, "spec.allowedUsernames"},
	"server object: no block of its engine":                {server, change{"postgresql": gone}, "spec"},
	"server object: no allowed owners":                     {server, change{"postgresql.allowedOwners": gone}, "spec.postgresql.allowedOwners"},
	"server object: an owner with a quote":                 {server, change{"postgresql.allowedOwners": []string{`a"b`}}, "spec.postgresql.allowedOwners[0]"},

	"login: no server":                           {databaseLogin, change{"serverRef": gone}, "spec.serverRef"},
	"login: a server of another kind":            {databaseLogin, change{"serverRef.kind": "Cluster"}, "spec.serverRef.kind"},
	"login: no block of an engine":               {databaseLogin, change{"postgresql": gone}, "spec"},
	"login: no database":                         {databaseLogin, change{"postgresql.database": gone}, "spec.postgresql.database"},
	"login: a database name with a semicolon":    {databaseLogin, change{"postgresql.database": "a;b"}, "spec.postgresql.database"},
	"login: no username":                         {databaseLogin, change{"username": gone}, "spec.username"},
	"login: a username of 62 characters":         {databaseLogin, change{"username": strings.Repeat("a", 62)}, "spec.username"},
	"login: a username with a quote":             {databaseLogin, change{"username": `a"; DROP ROLE b; --`}, "spec.username"},
	"login: a username that starts with a digit": {databaseLogin, change{"username": "1app"}, "spec.username"},
	"login: the superuser":                       {databaseLogin, change{"username": "postgres"}, "spec.username"},
	"login: a system user":                       {databaseLogin, change{"username": "pg_monitor"}, "spec.username"},
	"login: a system role as owner":              {databaseLogin, change{"postgresql.owner": "pg_execute_server_program"}, "spec.postgresql.owner"},
	"login: the superuser as owner":              {databaseLogin, change{"postgresql.owner": "postgres"}, "spec.postgresql.owner"},
	"login: no owner":                            {databaseLogin, change{"postgresql.owner": gone}, "spec.postgresql.owner"},
	"login: no strategy":                         {databaseLogin, change{"strategy": gone}, "spec.strategy"},
	"login: an unknown strategy":                 {databaseLogin, change{"strategy": "InPlace"}, "spec.strategy"},
	"login: an unknown way to create":            {databaseLogin, change{"create": "Always"}, "spec.create"},
	"login: a password of 15 characters":         {databaseLogin, change{"password.length": 15}, "spec.password.length"},
	"login: a password of 129 characters":        {databaseLogin, change{"password.length": 129}, "spec.password.length"},
	"login: an unknown alphabet":                 {databaseLogin, change{"password.alphabet": "Emoji"}, "spec.password.alphabet"},
	"login: no Secret":                           {databaseLogin, change{"secretName": gone}, "spec.secretName"},
	"login: a Secret's name of 254 characters":   {databaseLogin, change{"secretName": strings.Repeat("a", 254)}, "spec.secretName"},
}

func TestTheAPIServerRefuses(t *testing.T) {
	ns := namespace(t)
	for title, tc := range refused {
		t.Run(title, func(t *testing.T) {
			made := object(t, tc.kind, ns, tc.with)
			err := kube.Create(t.Context(), made)
			if err == nil {
				remove(t, made)
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

// mustName fails if no line names the field.
func mustName(t *testing.T, said []string, field string) {
	t.Helper()
	if !slices.ContainsFunc(said, func(line string) bool { return strings.HasPrefix(line, field+": ") }) {
		t.Errorf("%s is not named in:\n%s", field, strings.Join(said, "\n"))
	}
	for _, line := range said {
		if strings.Contains(line, "no such overload") || strings.Contains(line, "evaluating rule") || strings.Contains(line, "failed rule") {
			t.Errorf("an internal error message: %s", line)
		}
	}
}

func TestTheGoldenFileHoldsExactlyTheRefusals(t *testing.T) {
	want := slices.Concat(slices.Collect(maps.Keys(refused)), slices.Collect(maps.Keys(refusedChanges)))
	slices.Sort(want)
	if len(accepted)+len(want) < 80 {
		t.Errorf("%d objects are too few", len(accepted)+len(want))
	}
	got := slices.Sorted(maps.Keys(readGolden(t)))
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("the cases differ from those in %s (-cases +file):\n%s", goldenFile, diff)
	}
}
