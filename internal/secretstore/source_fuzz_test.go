// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package secretstore

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/rekey/rekey/api/v1alpha1"
	"github.com/rekey/rekey/internal/credential"
)

// FuzzSourceSecret reads admin Secrets that a user created. No value is used without the label and the right host, and no
// error shows a value, not even if the API server's answer quotes it.
func FuzzSourceSecret(f *testing.F) {
	f.Add("true", "db:5432", "rotator", []byte("hW3kQz81mTnB5sXc"), "denied: ")
	f.Add("true", " db:5432\n", "rotator", []byte("a b\nc\x00d"), `{"password":`)
	f.Add("false", "db:5432", "", []byte{}, "")
	f.Add("false", "db:5432", "rotator", []byte("hW3kQz81mTnB5sXc"), "")
	f.Add("True", "db:5432", "rotator", []byte("hW3kQz81mTnB5sXc"), "")
	f.Add("true", "elsewhere:5432", "rotator", []byte("hW3kQz81mTnB5sXc"), "")
	f.Add("true", "db:5432", "rotator", bytes.Repeat([]byte("hW3kQz81"), 9000), "")
	f.Fuzz(func(t *testing.T, label, host, username string, password []byte, answer string) {
		data := map[string][]byte{KeyHost: []byte(host), credential.KeyUsername: []byte(username), credential.KeyPassword: password}
		secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "admin", Labels: map[string]string{v1alpha1.LabelAllow: label}}, Data: data}
		found, err := ReadAdmin(t.Context(), fake.NewClientBuilder().WithObjects(secret).Build(), "shop", "admin", "db:5432")
		right := label == "true" && strings.TrimSpace(host) == "db:5432" && username != "" && len(password) > 0 && max(len(host), len(username), len(password)) <= maxSourceBytes
		if right != (err == nil) {
			t.Errorf("label %q, host %q: %v", label, host, err)
		}
		if err == nil && !bytes.Equal(found[credential.KeyPassword].Reveal(), password) {
			t.Error("another password was read")
		}
		value := bytes.TrimSpace(password)
		if len(value) < 6 {
			return
		}
		own := apiError("updating", client.ObjectKeyFromObject(secret), nil, errors.New("")).Error()
		if bytes.Contains([]byte(own), value) {
			return // our own text
		}
		if err != nil && bytes.Contains([]byte(err.Error()), value) && !bytes.Contains([]byte(host+label), value) && !strings.Contains(ownWords, string(value)) {
			t.Errorf("the error shows the password: %v", err)
		}
		quoting := apiError("updating", client.ObjectKeyFromObject(secret), &corev1.Secret{Type: secret.Type, Data: data}, errors.New(answer+string(password)+answer))
		if bytes.Contains([]byte(quoting.Error()), value) && !strings.Contains(ownWords, string(value)) {
			t.Errorf("the answer of the API server is quoted: %v", quoting)
		}
	})
}

// ownWords are in the errors in any case.
const ownWords = "secret shop/admin is for another server: its key host must be exactly db:5432; set it only if this login may be used at that server does not allow rekey to use it: if it should, run `kubectl -n shop label secret admin rekey.dev/allow=true --overwrite`" +
	" its key username password host is missing or empty: set it to the right value is bytes long, but at most 65536 are allowed updating Secret the answer quotes the Secret and is withheld; look for an admission webhook that refuses it"
