// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/test/workload/report"
)

// pollInterval is the interval at which the cluster is polled.
const pollInterval = 400 * time.Millisecond

// tracked maps the Secrets that the story follows to their names in it.
var tracked = map[types.NamespacedName]string{
	{Namespace: appNamespace, Name: appSecret}:       "client certificate",
	{Namespace: serverNamespace, Name: serverSecret}: "server certificate",
	{Namespace: appNamespace, Name: loginSecret}:     "database login",
	{Namespace: appNamespace, Name: forgottenSecret}: "forgotten certificate",
}

// observer turns the state of the cluster into past and story.
type observer struct {
	*demo
	events map[types.UID]int // how often each Event was counted
	// previous is the login in its overlap; empty if there is none.
	previous string
	said     time.Time // when the calls were last printed
}

// observe reads everything once.
func (o *observer) observe(ctx context.Context) error {
	var secrets corev1.SecretList
	if err := o.kube.List(ctx, &secrets, client.MatchingLabels{v1alpha1.LabelManagedBy: v1alpha1.ManagedBy}); err != nil {
		return fmt.Errorf("reading the Secrets: %w", err)
	}
	o.past.mu.Lock()
	defer o.past.mu.Unlock()
	for i := range secrets.Items {
		o.keepCanaries(&secrets.Items[i])
		if err := o.seeSecret(ctx, &secrets.Items[i]); err != nil {
			return err
		}
	}
	o.tellMounted()
	return errors.Join(o.seeLogin(ctx), o.seeForgotten(ctx), o.seeEvents(ctx))
}

// keepCanaries records the secrets that must not turn up anywhere else.
func (o *observer) keepCanaries(secret *corev1.Secret) {
	for _, key := range []string{"password", corev1.TLSPrivateKeyKey} {
		if value := secret.Data[key]; len(value) > 0 {
			o.past.canaries[fmt.Sprintf("%s of %s/%s, revision %s", key, secret.Namespace, secret.Name, secret.Annotations[v1alpha1.AnnotationRevision])] = value
		}
	}
}

// seeSecret prints a new version and tests the previous one.
func (o *observer) seeSecret(ctx context.Context, secret *corev1.Secret) error {
	what, ours := tracked[client.ObjectKeyFromObject(secret)]
	if !ours {
		return nil
	}
	now, err := readVersion(secret)
	if err != nil {
		return fmt.Errorf("reading the Secret %s/%s: %w", secret.Namespace, secret.Name, err)
	}
	versions := o.past.versions[secret.Name]
	if len(versions) > 0 && versions[len(versions)-1].revision == now.revision {
		return nil
	}
	o.past.versions[secret.Name] = append(versions, now)
	kind := "issued"
	if len(versions) > 0 {
		kind = "rotated"
	}
	whose := secret.Namespace + "/" + secret.Name
	if now.login != "" {
		o.out.tellf(now.at, kind, whose, "%s revision %d: login %s", what, now.revision, now.login)
	} else {
		o.out.tellf(now.at, kind, whose, "%s revision %d: serial %.8s.., valid until %s", what, now.revision, now.serial, now.notAfter.UTC().Format(stamp))
	}
	if now.login != "" && len(versions) > 0 {
		return o.tryOverlapping(ctx, versions[len(versions)-1])
	}
	return nil
}

// readVersion reads a published Secret.
func readVersion(secret *corev1.Secret) (*version, error) {
	revision, err := strconv.ParseInt(secret.Annotations[v1alpha1.AnnotationRevision], 10, 64)
	if err != nil {
		return nil, fmt.Errorf("reading the annotation %s: %w", v1alpha1.AnnotationRevision, err)
	}
	v := &version{revision: revision, at: time.Now(), secret: secret.Data}
	if secret.Type != corev1.SecretTypeTLS {
		v.login = string(secret.Data["username"])
		return v, nil
	}
	block, _ := pem.Decode(secret.Data[corev1.TLSCertKey])
	if block == nil {
		return nil, errors.New("tls.crt is not PEM")
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("reading tls.crt: %w", err)
	}
	v.serial, v.notAfter = report.Serial(leaf.SerialNumber), leaf.NotAfter
	return v, nil
}

// tellMounted matches what the application used with the versions, and prints each match once.
func (o *observer) tellMounted() {
	for _, secret := range []string{appSecret, serverSecret, loginSecret} {
		for _, v := range o.past.versions[secret] {
			if !v.mounted.IsZero() {
				continue
			}
			if v.mounted = o.past.firstUse(v); !v.mounted.IsZero() {
				o.out.tellf(v.mounted, "mounted", appNamespace+"/orders", "the application uses %s revision %d, %.1f s after publication",
					secret, v.revision, max(0, v.mounted.Sub(v.at).Seconds()))
			}
		}
	}
	if calls := o.past.calls; calls.Call > 0 && time.Since(o.said) > 15*time.Second {
		o.said = time.Now()
		o.out.tellf(o.said, "calls", appNamespace+"/orders", "%d calls, %d failed; used so far: client certificates %d, server certificates %d, passwords %d",
			calls.Call, calls.Failed, calls.Seen.Clients, calls.Seen.Servers, calls.Seen.Passwords)
	}
}

// firstUse returns when the application first used a version. Its log does not show a login's password, but the two logins
// take turns: the first new password of that login since publication is the one.
func (p *past) firstUse(v *version) time.Time {
	if v.login == "" {
		return p.serials[v.serial]
	}
	for _, u := range p.passwords {
		if u.login == v.login && u.at.After(v.at.Add(-2*time.Second)) {
			return u.at
		}
	}
	return time.Time{}
}

// seeEvents prints new Warning Events.
func (o *observer) seeEvents(ctx context.Context) error {
	for _, namespace := range []string{appNamespace, serverNamespace} {
		var events eventsv1.EventList
		if err := o.kube.List(ctx, &events, client.InNamespace(namespace)); err != nil {
			return fmt.Errorf("reading the Events: %w", err)
		}
		for i := range events.Items {
			o.seeEvent(&events.Items[i])
		}
	}
	return nil
}

func (o *observer) seeEvent(event *eventsv1.Event) {
	if event.Type != corev1.EventTypeWarning || event.Regarding.APIVersion != v1alpha1.GroupVersion.String() {
		return
	}
	count := 1
	if event.Series != nil {
		count = int(event.Series.Count)
	}
	more := count - o.events[event.UID]
	if more <= 0 {
		return
	}
	o.events[event.UID] = count
	o.past.warnings[warning{object: event.Regarding.Name, reason: event.Reason}] += more
	o.out.tellf(time.Now(), "warned", event.Regarding.Namespace+"/"+event.Regarding.Name, "%s: %s", event.Reason, firstSentence(event.Note))
}

// firstSentence drops the advice, which `kubectl describe` shows.
func firstSentence(note string) string {
	first, _, found := strings.Cut(note, ". ")
	if found {
		first += "."
	}
	return first
}
