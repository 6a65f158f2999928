// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package factcheck

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
	"github.com/rekey/rekey/internal/secretstore"
)

// maxSerial is the maximum number of digits of a serial number in a status; a longer one is omitted.
const maxSerial = 64

// Checker compares what rekey reports with the facts. It is safe for concurrent use.
type Checker struct {
	// Reader bypasses every cache and every fault.
	Reader client.Reader
	// Open reports whether the database accepts a login with the right password, and whether the login exists at all; nil if
	// that cannot be determined.
	Open func(login string) (open, known bool)

	mu     sync.Mutex
	claims map[string]int
}

// Claims returns how often each claim was compared.
func (c *Checker) Claims() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]int{}
	maps.Copy(out, c.claims)
	return out
}

// open asks the database about a login.
func (c *Checker) open(login string) (open, known bool) {
	if c.Open == nil || login == "" {
		return false, false
	}
	c.count("login at the database")
	return c.Open(login)
}

func (c *Checker) count(claim string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.claims == nil {
		c.claims = map[string]int{}
	}
	c.claims[claim]++
}

// Messages returns what is wrong with the form of an object's conditions.
func (c *Checker) Messages(conditions []metav1.Condition) error {
	var found []error
	for _, condition := range conditions {
		c.count("message of " + condition.Type)
		if err := Message(condition.Message); err != nil {
			found = append(found, fmt.Errorf("%s=%s %s: %w", condition.Type, condition.Status, condition.Reason, err))
		}
	}
	return errors.Join(found...)
}

// Form returns what is wrong with the form of an object's status.
func (c *Checker) Form(o client.Object) error {
	if ours, ok := o.(v1alpha1.Object); ok {
		return c.Messages(ours.GetConditions())
	}
	return nil
}

// Status returns the false claims of an object's status, and what is wrong with their form.
func (c *Checker) Status(ctx context.Context, o client.Object) error {
	err := c.Form(o)
	switch o := o.(type) {
	case *v1alpha1.DatabaseCredential:
		return errors.Join(err, c.login(ctx, o))
	case v1alpha1.IdentityObject:
		return errors.Join(err, c.certificate(ctx, o.GetNamespace(), string(o.GetIdentitySpec().SecretName), o.GetIdentityStatus()))
	}
	return err
}

// login checks the status of a DatabaseCredential.
func (c *Checker) login(ctx context.Context, o *v1alpha1.DatabaseCredential) error {
	var found []error
	bad := func(format string, args ...any) { found = append(found, fmt.Errorf(format, args...)) }
	secret, err := c.secret(ctx, o.Namespace, string(o.Spec.SecretName))
	if err != nil {
		return err
	}
	s := o.Status
	if s.Binding != nil || s.Revision > 0 || s.ActiveUsername != "" {
		c.count("published login")
		switch {
		case secret == nil:
			bad("the status reports revision %d, login %q, and there is no Secret", s.Revision, s.ActiveUsername)
		case string(secret.Data[credential.KeyUsername]) != s.ActiveUsername:
			bad("status.activeUsername is %q, and the Secret holds %q", s.ActiveUsername, secret.Data[credential.KeyUsername])
		}
	}
	if ready := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionReady); ready != nil && ready.Status == metav1.ConditionTrue {
		c.count("ready login")
		if secret == nil {
			bad("Ready is True, and there is no Secret")
		}
	}
	if s.Previous != nil {
		if open, known := c.open(s.Previous.Username); known && !open {
			bad("status.previous names %q, which is refused", s.Previous.Username)
		}
	}
	ledger, err := c.ledger(ctx, o.Namespace, o.Name)
	if err != nil || ledger == nil || secret == nil {
		return errors.Join(append(found, err)...)
	}
	for _, record := range []*secretstore.Record{ledger.Current, ledger.Previous} {
		// A user replaced the ledger with one of other logins.
		if record == nil || record.Seq != s.Revision {
			continue
		}
		if login := record.Material.String(credential.KeyUsername); login != "" && login != s.ActiveUsername {
			continue
		}
		c.count("revision by the ledger")
		if record.Material.String(credential.KeyPassword) != string(secret.Data[credential.KeyPassword]) {
			bad("status.revision is %d, and the Secret holds a password other than the ledger's for it", s.Revision)
		}
	}
	return errors.Join(found...)
}

// certificate checks the status of an identity.
func (c *Checker) certificate(ctx context.Context, namespace, name string, s *v1alpha1.IdentityStatus) error {
	secret, err := c.secret(ctx, namespace, name)
	if err != nil {
		return err
	}
	ready := meta.IsStatusConditionTrue(s.Conditions, v1alpha1.ConditionReady)
	if s.SerialNumber == "" && s.Binding == nil && !ready {
		return nil
	}
	c.count("published certificate")
	leaf := leafOf(secret)
	if leaf == nil {
		return fmt.Errorf("the status reports Ready %t and serial number %q, and the Secret holds no certificate", ready, s.SerialNumber)
	}
	if serial := fmt.Sprintf("%x", leaf.SerialNumber); !sameSerial(serial, s.SerialNumber) && (s.SerialNumber != "" || len(serial) <= maxSerial) {
		return fmt.Errorf("status.serialNumber is %q, and the Secret holds %q", s.SerialNumber, serial)
	}
	if s.NotAfter == nil || !s.NotAfter.Time.Equal(leaf.NotAfter) {
		return fmt.Errorf("status.notAfter is %v, and the Secret holds %s", s.NotAfter, leaf.NotAfter)
	}
	return nil
}

var (
	rotatedForm  = regexp.MustCompile(`^Revision (\d+) with login (\S+) is published in Secret (\S+)\.(?: Login (\S+) stays accepted)?`)
	retiredForm  = regexp.MustCompile(`^Login (\S+) is now refused`)
	issuedForm   = regexp.MustCompile(`^Revision (\d+) is published in Secret ([^ :]+): serial number ([0-9a-f]+),`)
	keystoreForm = regexp.MustCompile(`^Revision (\d+) is now encoded in (\S.*) of Secret (\S+), with the password in key (\S+) of Secret (\S+)\.`)
	adoptedForm  = regexp.MustCompile(`^Secret ([^ /]+)/([^ ,]+), which .* was adopted`)
)

// Event returns the false claims of an Event.
func (c *Checker) Event(ctx context.Context, regarding client.Object, reason, note string) error {
	c.count("Event " + reason)
	err := Message(note)
	if err != nil {
		err = fmt.Errorf("%s: %w", reason, err)
	}
	switch reason {
	case v1alpha1.ReasonRotated:
		return errors.Join(err, c.rotated(ctx, regarding.GetNamespace(), note))
	case v1alpha1.ReasonRetired:
		parts := retiredForm.FindStringSubmatch(note)
		if parts == nil {
			return errors.Join(err, fmt.Errorf("Event %s does not name the login: %q", reason, note))
		}
		if open, known := c.open(parts[1]); known && open {
			err = errors.Join(err, fmt.Errorf("Event %s reports that login %s is refused, and it is accepted", reason, parts[1]))
		}
	case v1alpha1.ReasonIssued:
		return errors.Join(err, c.issued(ctx, regarding.GetNamespace(), note))
	case v1alpha1.ReasonKeystoreWritten:
		return errors.Join(err, c.keystoreWritten(ctx, regarding.GetNamespace(), note))
	case v1alpha1.ReasonAdopted:
		return errors.Join(err, c.adopted(ctx, regarding, note))
	case v1alpha1.ReasonCleanupIncomplete:
		if regarding.GetDeletionTimestamp().IsZero() {
			err = errors.Join(err, fmt.Errorf("Event %s is emitted for an object that is not deleted", reason))
		}
	}
	return err
}

func (c *Checker) rotated(ctx context.Context, namespace, note string) error {
	parts := rotatedForm.FindStringSubmatch(note)
	if parts == nil {
		return fmt.Errorf("Event Rotated does not name revision, login and Secret: %q", note)
	}
	secret, err := c.secret(ctx, namespace, parts[3])
	open, known := c.open(parts[4])
	switch {
	case err != nil:
		return err
	case secret == nil:
		return fmt.Errorf("Event Rotated reports that Secret %s holds login %s, and the Secret does not exist", parts[3], parts[2])
	case string(secret.Data[credential.KeyUsername]) != parts[2] || secret.Annotations[v1alpha1.AnnotationRevision] != parts[1]:
		return fmt.Errorf("Event Rotated reports revision %s with login %s, and Secret %s holds revision %s with login %s", parts[1], parts[2], parts[3],
			secret.Annotations[v1alpha1.AnnotationRevision], secret.Data[credential.KeyUsername])
	case known && !open:
		return fmt.Errorf("Event Rotated reports that login %s stays accepted, and it is refused", parts[4])
	}
	return nil
}

func (c *Checker) issued(ctx context.Context, namespace, note string) error {
	parts := issuedForm.FindStringSubmatch(note)
	if parts == nil {
		return fmt.Errorf("Event Issued does not name revision, Secret and serial number: %q", note)
	}
	secret, err := c.secret(ctx, namespace, parts[2])
	if err != nil {
		return err
	}
	if leaf := leafOf(secret); leaf == nil || !sameSerial(fmt.Sprintf("%x", leaf.SerialNumber), parts[3]) {
		return fmt.Errorf("Event Issued reports that Secret %s holds serial number %s, and it does not", parts[2], parts[3])
	}
	return nil
}

// keystoreWritten compares only what does not need the password.
func (c *Checker) keystoreWritten(ctx context.Context, namespace, note string) error {
	parts := keystoreForm.FindStringSubmatch(note)
	if parts == nil {
		return fmt.Errorf("Event KeystoreWritten does not name revision, files, Secret and password: %q", note)
	}
	secret, err := c.secret(ctx, namespace, parts[3])
	if err != nil {
		return err
	}
	if secret == nil || !strings.HasPrefix(secret.Annotations[v1alpha1.AnnotationKeystores], parts[1]+" ") {
		return fmt.Errorf("Event KeystoreWritten reports that the keystores in Secret %s hold revision %s, and they do not", parts[3], parts[1])
	}
	for file := range strings.SplitSeq(parts[2], ", ") {
		if len(secret.Data[file]) == 0 {
			return fmt.Errorf("Event KeystoreWritten names %s, and Secret %s does not have it", file, parts[3])
		}
	}
	return nil
}

func (c *Checker) adopted(ctx context.Context, regarding client.Object, note string) error {
	parts := adoptedForm.FindStringSubmatch(note)
	if parts == nil {
		return fmt.Errorf("Event Adopted does not name the Secret and its former owner: %q", note)
	}
	secret, err := c.secret(ctx, parts[1], parts[2])
	if err != nil {
		return err
	}
	if kind, name, ok := ownerOf(secret); !ok || name != regarding.GetName() || !strings.HasSuffix(fmt.Sprintf("%T", regarding), "."+kind) {
		return fmt.Errorf("Event Adopted is emitted, and Secret %s/%s does not belong to %T %s", parts[1], parts[2], regarding, regarding.GetName())
	}
	return nil
}

func ownerOf(secret *corev1.Secret) (kind, name string, ok bool) {
	if secret == nil {
		return "", "", false
	}
	return secretstore.OwnerOf(secret)
}

// secret reads a Secret; nil if it does not exist.
func (c *Checker) secret(ctx context.Context, namespace, name string) (*corev1.Secret, error) {
	var secret corev1.Secret
	err := c.Reader.Get(ctx, client.ObjectKey{Namespace: namespace, Name: name}, &secret)
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	return &secret, err
}

// ledger reads the ledger of a DatabaseCredential; nil if there is no readable one.
func (c *Checker) ledger(ctx context.Context, namespace, name string) (*secretstore.Ledger, error) {
	secret, err := c.secret(ctx, namespace, secretstore.LedgerName("DatabaseCredential", name))
	if err != nil || secret == nil {
		return nil, err
	}
	ledger, err := secretstore.DecodeLedger(secret.Data)
	if err != nil {
		return nil, nil //nolint:nilerr // a damaged one claims nothing
	}
	return &ledger, nil
}

func leafOf(secret *corev1.Secret) *x509.Certificate {
	if secret == nil {
		return nil
	}
	block, _ := pem.Decode(secret.Data[credential.KeyCertificate])
	if block == nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil
	}
	return leaf
}

func sameSerial(a, b string) bool {
	return strings.TrimLeft(strings.ToLower(a), "0") == strings.TrimLeft(strings.ToLower(b), "0")
}
