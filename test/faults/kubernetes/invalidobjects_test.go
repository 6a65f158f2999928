// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package kubernetes

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/fixture"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// invalidObjects are objects that the API server accepts but that can never become ready, each for a different reason.
var invalidObjects = map[string]func(name string) client.Object{
	"a missing authority": func(name string) client.Object {
		o := fixture.ClientIdentity(name)
		o.Spec.AuthorityRef.Name = "nowhere"
		return o
	},
	"a missing cluster authority": func(name string) client.Object {
		o := fixture.ClientIdentity(name)
		o.Spec.AuthorityRef = v1alpha1.AuthorityReference{Kind: v1alpha1.AuthorityKindCluster, Name: "nowhere"}
		return o
	},
	"a lifetime that the authority denies": func(name string) client.Object {
		o := fixture.ClientIdentity(name)
		o.Spec.Lifetime = fixture.Duration(100000 * time.Hour)
		return o
	},
	"a name that the authority denies": func(name string) client.Object {
		o := fixture.ClientIdentity(name)
		o.Spec.DNSNames = []v1alpha1.DNSName{"www.example.com"}
		return o
	},
	"a Secret of another owner": func(name string) client.Object {
		o := fixture.ClientIdentity(name)
		o.Spec.SecretName = "foreign"
		return o
	},
	"a missing policy": func(name string) client.Object {
		o := fixture.ClientIdentity(name)
		o.Spec.RotationPolicyRef = &v1alpha1.LocalReference{Name: "nowhere"}
		return o
	},
	"a missing server": func(name string) client.Object {
		o := aCredential(name)
		o.Spec.ServerRef.Name = "nowhere"
		return o
	},
	"a server without its admin Secret": func(name string) client.Object {
		o := aCredential(name)
		o.Spec.ServerRef.Name = "headless"
		return o
	},
	"an owner that the server denies": func(name string) client.Object {
		o := aCredential(name)
		o.Spec.PostgreSQL.Owner = "somebody_else"
		return o
	},
}

func aForeignSecret() *corev1.Secret {
	return &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "foreign"}, StringData: map[string]string{"precious": "yes"}}
}

func aHeadlessServer() *v1alpha1.DatabaseServer {
	o := aServer()
	o.Name, o.Spec.AdminSecretRef.Name = "headless", "nowhere"
	return o
}

// I10, R8, R29: rekey retries an invalid object less and less often, reports its problem once, and writes only the time of its
// next attempt.
func TestAnInvalidObjectCostsLessAndLess(t *testing.T) {
	for what, anObject := range invalidObjects {
		t.Run(what, func(t *testing.T) {
			s := newScene(t)
			s.ready(anAuthority(), aPolicy(), fixture.AdminSecret(), aServer(), aForeignSecret())
			s.Create(aHeadlessServer())
			o := anObject("nonsense")
			s.Create(o)
			s.live(o, time.Minute)
			s.counted()
			calls := func() int {
				return s.Fake.Calls("Preflight") + s.Fake.Calls("Stage") + s.Fake.Calls("Verify") + s.Fake.Calls("Check")
			}
			s.live(o, time.Hour)
			_, first := s.counted()
			before := calls()
			s.live(o, 4*time.Hour)
			s.counted()
			s.live(o, time.Hour)
			writes, last := s.counted()
			if last > first || last > 120 {
				t.Errorf("in its first hour it cost %d requests, in its sixth %d", first, last)
			}
			if asked := calls() - before; asked > 5*12 {
				t.Errorf("rekey contacted the database %d times in five hours", asked)
			}
			// The status shows the time of the next attempt, and attempts are at least five minutes apart.
			if isReady(o) || writes > 12 {
				t.Errorf("it is Ready, or wrote %d times in its sixth hour:%s", writes, describe(o))
			}
			if events := s.Events(); len(events) != 1 || !with(events, "Warning ") {
				t.Errorf("Events: %q, want one Warning", events)
			}
		})
	}
}

// inParallel runs a function for every object, a few at a time.
func inParallel(objects []client.Object, do func(client.Object)) {
	queue := make(chan client.Object)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for o := range queue {
				do(o)
			}
		})
	}
	for _, o := range objects {
		queue <- o
	}
	close(queue)
	group.Wait()
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

// R24, I9, I10, S9, S10: among a great many invalid objects, thousands of other users' Secrets and a huge one, a valid object
// is ready immediately. Objects that waited for an authority recover as soon as it exists, and all are gone immediately when
// they are deleted.
func TestAValidObjectAmongAThousandInvalidOnesIsReadyImmediately(t *testing.T) {
	s := newScene(t)
	n := size.Number(300, 1000)
	var bad, foreign []client.Object
	i := 0
	for len(bad) < n {
		for _, anObject := range invalidObjects {
			o := anObject(fmt.Sprintf("bad-%04d", i))
			o.SetNamespace(s.Namespace)
			bad = append(bad, o)
			i++
		}
	}
	for i := range size.Number(200, 3000) {
		foreign = append(foreign, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("theirs-%04d", i), Namespace: s.Namespace},
			Data: map[string][]byte{"x": []byte(strings.Repeat("x", 20<<10))}})
	}
	foreign = append(foreign, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: "huge", Namespace: s.Namespace},
		Data: map[string][]byte{"x": []byte(strings.Repeat("x", 1000<<10))}})
	put := func(o client.Object) {
		if err := s.Client.Create(s.Ctx, o); err != nil {
			t.Error(err)
		}
	}
	s.Create(anAuthority(), aPolicy(), fixture.AdminSecret(), aServer(), aForeignSecret(), aHeadlessServer())
	inParallel(foreign, put)
	start := heap()
	o := startOperator(t, world.APIServer(), s.Namespace, s.Fake)
	authority := anAuthority()
	authority.Namespace = s.Namespace
	untilHealthy(t, s.Client, authority)
	if grown := int64(heap()) - int64(start); grown > 24<<20 {
		t.Errorf("%d Secrets of other users made the heap grow by %d bytes: they are cached", len(foreign), grown)
	}
	inParallel(bad, put)
	good, login := fixture.ClientIdentity("good"), aCredential("good")
	good.Annotations = map[string]string{}
	for i := range 2000 {
		good.Annotations[fmt.Sprintf("example.com/annotation-%04d", i)] = strings.Repeat("x", 50)
	}
	started := time.Now()
	s.Create(good, login)
	untilHealthy(t, s.Client, good, login)
	t.Logf("ready after %s", time.Since(started))
	if took := time.Since(started); took > 30*time.Second {
		t.Errorf("a valid object waited %s", took)
	}
	// The authority that they named is created.
	nowhere := anAuthority()
	nowhere.Name = "nowhere"
	fixture.SetAuthoritySecret(&nowhere.Spec, "nowhere-ca")
	s.Create(nowhere)
	var waited []client.Object
	for _, o := range bad {
		if identity, ok := o.(*v1alpha1.ClientIdentity); ok && identity.Spec.AuthorityRef.Name == "nowhere" && identity.Spec.AuthorityRef.Kind == v1alpha1.AuthorityKindNamespaced {
			waited = append(waited, o)
		}
	}
	started = time.Now()
	untilHealthy(t, s.Client, waited...)
	t.Logf("%d objects that waited for their authority are ready after %s; %d errors in the log", len(waited), time.Since(started), o.errorLines())
	if lines := o.errorLines(); lines > 2*n {
		t.Errorf("%d errors in the log", lines)
	}
	inParallel(bad, func(o client.Object) {
		if err := s.Client.Delete(s.Ctx, o); err != nil {
			t.Error(err)
		}
	})
	until(t, func() bool {
		var logins v1alpha1.DatabaseCredentialList
		var identities v1alpha1.ClientIdentityList
		if s.Client.List(s.Ctx, &logins, client.InNamespace(s.Namespace)) != nil || s.Client.List(s.Ctx, &identities, client.InNamespace(s.Namespace)) != nil {
			return false
		}
		return len(logins.Items)+len(identities.Items) == 2
	}, func() string { return "the invalid objects are not deleted" })
	until(t, func() bool { return int64(heap())-int64(start) < 48<<20 }, func() string {
		return fmt.Sprintf("after their deletion the heap is %d bytes above the start", int64(heap())-int64(start))
	})
}

// R5, I4: a restart with nothing due writes nothing; with every status deleted it writes the statuses and nothing else.
func TestARestartWritesNothingExceptDeletedStatuses(t *testing.T) {
	s := newScene(t)
	s.ready(anAuthority(), aPolicy(), fixture.AdminSecret(), aServer())
	var objects []client.Object
	for i := range size.Number(10, 200) {
		objects = append(objects, fixture.ClientIdentity(fmt.Sprintf("app-%03d", i)), aCredential(fmt.Sprintf("login-%03d", i)))
	}
	s.ready(objects...)
	versions := func() map[string]string {
		var secrets corev1.SecretList
		if err := s.Client.List(s.Ctx, &secrets, client.InNamespace(s.Namespace)); err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for _, secret := range secrets.Items {
			out[secret.Name] = secret.ResourceVersion
		}
		return out
	}
	before := versions()
	calls := s.Fake.Calls("Stage")
	s.restart(world.Options{})
	s.counted()
	for _, o := range objects {
		s.reconcile(o)
	}
	if writes, _ := s.counted(); writes > 0 {
		t.Errorf("a restart wrote %d times", writes)
	}
	for _, o := range objects {
		switch c := o.(type) {
		case *v1alpha1.ClientIdentity:
			c.Status = v1alpha1.IdentityStatus{}
		case *v1alpha1.DatabaseCredential:
			c.Status = v1alpha1.DatabaseCredentialStatus{}
		}
		if err := s.Client.Status().Update(s.Ctx, o); err != nil {
			t.Fatal(err)
		}
	}
	s.restart(world.Options{})
	s.counted()
	for _, o := range objects {
		s.reconcile(o)
	}
	if writes, _ := s.counted(); writes != len(objects) {
		t.Errorf("with every status deleted a restart wrote %d times, want %d statuses", writes, len(objects))
	}
	after := versions()
	for name, version := range before {
		if after[name] != version {
			t.Errorf("Secret %s was written", name)
		}
	}
	if len(after) != len(before) || s.Fake.Calls("Stage") != calls {
		t.Error("an additional Secret exists, or a password was staged")
	}
	for _, o := range objects {
		if s.settle(o); !healthy(o) {
			t.Errorf("%s is not healthy:%s", o.GetName(), describe(o))
		}
	}
}
