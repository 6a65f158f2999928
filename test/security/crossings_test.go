// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/world"
)

// crossing is a field of an object in one namespace, and an object in another namespace with the name that the field holds.
type crossing struct {
	field string
	// name distinguishes crossings of one field.
	name string
	// from returns the objects that refer to "target"; the first one is observed. They are in the asking namespace.
	from func() []client.Object
	// to returns objects that would satisfy the reference if they were reachable. They are in the other namespace.
	to func(t *testing.T, other string) []client.Object
	// here is true if the same object in the asking namespace changes what the first object reports. A name that is only
	// written to is free in the asking namespace, whatever other namespaces hold.
	here bool
}

func meta(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func authoritySpec(secret string, managed bool) v1alpha1.AuthoritySpec {
	out := fixture.AuthoritySpec(secret)
	if !managed {
		fixture.SetKeyPair(&out, secret)
	}
	return out
}

func identitySpec(authority v1alpha1.AuthorityReference, secret string) v1alpha1.IdentitySpec {
	out := fixture.ServerIdentity("a").Spec.IdentitySpec
	out.AuthorityRef, out.CommonName, out.SecretName = authority, "app", v1alpha1.ObjectName(secret)
	return out
}

func aServer(name, admin string, ca *v1alpha1.CAReference) *v1alpha1.DatabaseServer {
	return fixture.Server(func(s *v1alpha1.DatabaseServer) {
		s.Name, s.Spec.Address, s.Spec.AdminSecretRef.Name = name, "db.data:5432", v1alpha1.ObjectName(admin)
		s.Spec.TLS = v1alpha1.ServerTLS{Mode: v1alpha1.TLSModeRequire}
		if ca != nil {
			s.Spec.TLS = v1alpha1.ServerTLS{Mode: v1alpha1.TLSModeVerifyFull, CARef: ca}
		}
		fixture.Allow(s, "*", "*")
	})
}

func anAdmin(name string) *corev1.Secret {
	return fixture.AdminSecret(func(s *corev1.Secret) {
		s.Name, s.StringData = name, nil
		s.Data = map[string][]byte{"username": []byte("rotator"), "password": []byte("admin-password-of-the-other"), "host": []byte("db.data:5432")}
	})
}

func aLogin(server, policy, secret string) *v1alpha1.DatabaseCredential {
	return fixture.Credential("asking", func(c *v1alpha1.DatabaseCredential) {
		c.Spec.ServerRef.Name, c.Spec.RotationPolicyRef, c.Spec.SecretName = v1alpha1.ObjectName(server), nil, v1alpha1.ObjectName(secret)
		if policy != "" {
			c.Spec.RotationPolicyRef = &v1alpha1.LocalReference{Name: v1alpha1.ObjectName(policy)}
		}
	})
}

func aPolicy(name string) *v1alpha1.RotationPolicy {
	// No jitter: it is a hash of the UID, so two objects would be due at different times.
	return fixture.Policy(func(p *v1alpha1.RotationPolicy) { p.Name, p.Spec.JitterPercent = name, new(int32(0)) })
}

func anAuthority(name string, spec v1alpha1.AuthoritySpec) client.Object {
	return fixture.Authority(func(a *v1alpha1.CertificateAuthority) { a.Name, a.Spec = name, spec })
}

// aClusterAuthority admits the namespaces that the selector selects; without one it admits none.
func aClusterAuthority(name string, spec v1alpha1.AuthoritySpec, admitted *metav1.LabelSelector) client.Object {
	return fixture.ClusterAuthority(name, func(a *v1alpha1.ClusterCertificateAuthority) {
		a.Spec.AuthoritySpec, a.Spec.NamespaceSelector = spec, admitted
	})
}

func aClientIdentity(spec v1alpha1.IdentitySpec) client.Object {
	return fixture.ClientIdentity("asking", func(i *v1alpha1.ClientIdentity) { i.Spec.IdentitySpec = spec })
}

func aServerIdentity(spec v1alpha1.IdentitySpec) client.Object {
	return fixture.ServerIdentity("asking", func(i *v1alpha1.ServerIdentity) { i.Spec.IdentitySpec = spec })
}

var (
	own        = v1alpha1.AuthorityReference{Name: "own"}
	target     = v1alpha1.AuthorityReference{Name: "target"}
	clusterRef = v1alpha1.AuthorityReference{Kind: v1alpha1.AuthorityKindCluster, Name: "target"}
)

func ownAuthority() client.Object {
	return anAuthority("own", authoritySpec("own-ca", true))
}

func foreignSecret(*testing.T, string) []client.Object {
	return []client.Object{&corev1.Secret{ObjectMeta: meta("target"), Data: map[string][]byte{"tls.key": []byte("of another object")}}}
}

func foreignPassword(*testing.T, string) []client.Object {
	return []client.Object{&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "target", Labels: map[string]string{v1alpha1.LabelAllow: "true"}},
		Data: map[string][]byte{"password": []byte("keystore-password-of-the-other")}}}
}

func foreignKeyPair(t *testing.T, _ string) []client.Object {
	t.Helper()
	return []client.Object{keyPair(t, "", "target")}
}

func foreignAuthority(*testing.T, string) []client.Object {
	return []client.Object{anAuthority("target", authoritySpec("target-ca", true))}
}

func foreignPolicy(*testing.T, string) []client.Object { return []client.Object{aPolicy("target")} }

// clusterAuthority admits only the other namespace.
func clusterAuthority(managed bool) func(t *testing.T, other string) []client.Object {
	return func(_ *testing.T, other string) []client.Object {
		return []client.Object{aClusterAuthority("target", authoritySpec("target-ca", managed),
			&metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: other}})}
	}
}

// identityCrossings returns those of both kinds of identities.
func identityCrossings(kind string, with func(v1alpha1.IdentitySpec) client.Object) []crossing {
	withPolicy := identitySpec(own, "asking-mtls")
	withPolicy.RotationPolicyRef = &v1alpha1.LocalReference{Name: "target"}
	withKeystores := identitySpec(own, "asking-mtls")
	withKeystores.Formats = []v1alpha1.Format{v1alpha1.FormatJKS}
	withKeystores.Keystore = &v1alpha1.Keystore{PasswordSecretRef: v1alpha1.SecretKeyReference{Name: "target"}}
	return []crossing{
		{kind + " spec.authorityRef.name", "of an authority in the namespace", func() []client.Object { return []client.Object{with(identitySpec(target, "asking-mtls"))} }, foreignAuthority, true},
		{kind + " spec.authorityRef.name", "of an authority for the cluster", func() []client.Object { return []client.Object{with(identitySpec(clusterRef, "asking-mtls"))} }, clusterAuthority(true), false},
		{kind + " spec.authorityRef.name", "of a broken authority for the cluster", func() []client.Object { return []client.Object{with(identitySpec(clusterRef, "asking-mtls"))} }, clusterAuthority(false), false},
		{kind + " spec.rotationPolicyRef.name", "", func() []client.Object { return []client.Object{with(withPolicy), ownAuthority()} }, foreignPolicy, true},
		{kind + " spec.keystore.passwordSecretRef.name", "", func() []client.Object { return []client.Object{with(withKeystores), ownAuthority()} }, foreignPassword, true},
		{kind + " spec.secretName", "", func() []client.Object { return []client.Object{with(identitySpec(own, "target")), ownAuthority()} }, foreignSecret, true},
	}
}

func crossings() []crossing {
	out := append(identityCrossings("ClientIdentity", aClientIdentity), identityCrossings("ServerIdentity", aServerIdentity)...)
	return append(out,
		crossing{"CertificateAuthority spec.keyPair.secretName", "", func() []client.Object {
			return []client.Object{anAuthority("asking", authoritySpec("target", false))}
		}, foreignKeyPair, true},
		crossing{"CertificateAuthority spec.managed.secretName", "of a key that is not created yet", func() []client.Object {
			return []client.Object{anAuthority("asking", authoritySpec("target", true))}
		}, foreignSecret, true},
		crossing{"ClusterCertificateAuthority spec.keyPair.secretName", "in a namespace that is not the operator's", func() []client.Object {
			return []client.Object{aClusterAuthority("asking", authoritySpec("target", false), nil)}
		}, foreignKeyPair, false},
		crossing{"ClusterCertificateAuthority spec.managed.secretName", "in a namespace that is not the operator's", func() []client.Object {
			return []client.Object{aClusterAuthority("asking", authoritySpec("target", true), nil)}
		}, foreignSecret, false},
		crossing{"ClusterCertificateAuthority spec.namespaceSelector", "that admits no namespace", func() []client.Object {
			return []client.Object{aClientIdentity(identitySpec(clusterRef, "asking-mtls"))}
		}, func(*testing.T, string) []client.Object {
			return []client.Object{aClusterAuthority("target", authoritySpec("target-ca", true), nil)}
		}, false},
		crossing{"DatabaseServer spec.adminSecretRef.name", "", func() []client.Object { return []client.Object{aServer("asking", "target", nil)} },
			func(*testing.T, string) []client.Object { return []client.Object{anAdmin("target")} }, true},
		crossing{"DatabaseServer spec.tls.caRef.name", "a ConfigMap", func() []client.Object {
			return []client.Object{aServer("asking", "admin", &v1alpha1.CAReference{Kind: v1alpha1.CASourceConfigMap, Name: "target", Key: "tls.crt"}), anAdmin("admin")}
		}, func(t *testing.T, _ string) []client.Object {
			t.Helper()
			return []client.Object{&corev1.ConfigMap{ObjectMeta: meta("target"), Data: map[string]string{"tls.crt": string(keyPair(t, "", "x").Data["tls.crt"])}}}
		}, true},
		crossing{"DatabaseServer spec.tls.caRef.name", "a Secret", func() []client.Object {
			return []client.Object{aServer("asking", "admin", &v1alpha1.CAReference{Kind: v1alpha1.CASourceSecret, Name: "target", Key: "tls.crt"}), anAdmin("admin")}
		}, foreignKeyPair, true},
		crossing{"DatabaseCredential spec.serverRef.name", "", func() []client.Object { return []client.Object{aLogin("target", "", "asking-db")} },
			func(*testing.T, string) []client.Object {
				return []client.Object{aServer("target", "admin", nil), anAdmin("admin")}
			}, true},
		crossing{"DatabaseCredential spec.rotationPolicyRef.name", "", func() []client.Object {
			return []client.Object{aLogin("server", "target", "asking-db"), aServer("server", "admin", nil), anAdmin("admin")}
		}, foreignPolicy, true},
		crossing{"DatabaseCredential spec.secretName", "", func() []client.Object {
			return []client.Object{aLogin("server", "", "target"), aServer("server", "admin", nil), anAdmin("admin")}
		}, foreignSecret, true},
	)
}

// sight is everything that the asking tenant can see of an object: its status, its Events, and the time of its next
// reconcile.
type sight struct {
	Status   string
	Events   []string
	Requeues []string
	Requests []string
}

var chance = regexp.MustCompile(`[0-9a-f]{16,}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}`)

// observer runs one crossing in one situation, with one process: when a new process first proves what it finds is random.
type observer struct {
	*world.World
	process       *world.Process
	asking, other string
}

func (o *observer) newNamespace(name string) string {
	o.T.Helper()
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: name + "-"}}
	o.Create(namespace)
	return namespace.Name
}

func (o *observer) put(namespace string, objects ...client.Object) {
	o.T.Helper()
	for _, object := range objects {
		object.SetNamespace(namespace)
		o.Create(object)
	}
}

// look reconciles everything in the asking namespace three times, and returns what can be seen of the first object. None of
// it may touch the other namespace.
func (o *observer) look(t *testing.T, objects []client.Object) sight {
	t.Helper()
	var out sight
	if o.process == nil {
		o.process = o.Start("operator", world.Options{})
	}
	o.process.Hook(func(_ context.Context, r world.Request, do func() error) error {
		if r.Namespace == o.other {
			t.Errorf("an object in another namespace caused: %s in %s", r, r.Namespace)
		}
		if r.Live || r.Writes() { // Other reads come from the cache, and tenants cannot see them.
			out.Requests = append(out.Requests, o.plain(fmt.Sprintf("%s in %s", r, r.Namespace)))
		}
		return do()
	})
	o.Events()
	for range 3 {
		for i, object := range slices.Backward(objects) {
			switch object.(type) {
			case *corev1.Secret, *corev1.ConfigMap, *v1alpha1.RotationPolicy:
				continue
			}
			result, err := o.process.Reconcile(object)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				out.Requeues = append(out.Requeues, when(result.RequeueAfter))
			}
		}
	}
	o.Get(objects[0])
	text, err := json.Marshal(objects[0])
	if err != nil {
		t.Fatal(err)
	}
	var shown struct {
		Status json.RawMessage `json:"status"`
	}
	if err := json.Unmarshal(text, &shown); err != nil {
		t.Fatal(err)
	}
	out.Status = o.plain(string(shown.Status))
	for _, event := range o.Events() {
		out.Events = append(out.Events, o.plain(event))
	}
	return out
}

// when returns how long a reconcile waits for the next one. The hourly proof of a healthy login comes earlier at random.
func when(after time.Duration) string {
	if after > time.Hour/2 {
		return "within the hour"
	}
	return after.String()
}

// plain removes names and random values from a text.
func (o *observer) plain(text string) string {
	return chance.ReplaceAllString(strings.ReplaceAll(strings.ReplaceAll(text, o.asking, "<asking>"), o.Namespace, "<operator>"), "<chance>")
}

func observe(t *testing.T, at time.Time, c crossing, there, here bool) sight {
	t.Helper()
	o := &observer{World: world.New(t, nil)}
	o.Clock.SetTime(at)
	o.asking, o.other = o.newNamespace("asking"), o.newNamespace("other")
	if there {
		o.put(o.other, c.to(t, o.other)...)
	}
	if here {
		o.put(o.asking, c.to(t, o.asking)...)
	}
	objects := c.from()
	o.put(o.asking, objects...)
	out := o.look(t, objects)
	for _, object := range append(objects, c.to(t, o.other)...) {
		if _, everywhere := object.(*v1alpha1.ClusterCertificateAuthority); everywhere {
			if err := o.Client.Delete(t.Context(), object); client.IgnoreNotFound(err) != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

func TestAnObjectInAnotherNamespaceLooksLikeAMissingOne(t *testing.T) {
	at := time.Now().UTC().Truncate(time.Second)
	for _, c := range crossings() {
		t.Run(strings.TrimSpace(c.field+" "+c.name), func(t *testing.T) {
			absent := observe(t, at, c, false, false)
			if diff := cmp.Diff(absent, observe(t, at, c, true, false)); diff != "" {
				t.Errorf("visible difference between no object of that name, and one in another namespace (-absent +foreign):\n%s", diff)
			}
			if absent.Status == "" || len(absent.Requests) < 3 {
				t.Errorf("no output was seen: %+v", absent)
			}
			// A comparison that never differs would prove nothing.
			if c.here && absent.Status == observe(t, at, c, false, true).Status {
				t.Errorf("the same object in its own namespace makes no difference: %s", absent.Status)
			}
		})
	}
}
