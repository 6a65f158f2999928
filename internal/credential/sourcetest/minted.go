// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package sourcetest

import (
	"testing"

	"github.com/rekey/rekey/internal/credential"
)

var minting = []promise{
	{"staging a version again revokes what an earlier Stage of it left", (*Suite).mintedTwice},
	{"retiring a version whose secret never arrived refuses that secret", (*Suite).mintedForNobody},
}

func (s *Suite) mintedTwice(t *testing.T) {
	t.Helper()
	subject := s.Fresh(t)
	proposed := s.propose(t, subject.Source(t), ref(4, s.a))
	lost := s.stageAs(t, subject.Source(t), ref(4, s.a), proposed)
	kept := s.stageAs(t, subject.Source(t), ref(4, s.a), proposed)
	if lost.material.String(s.Secret) == kept.material.String(s.Secret) {
		t.Error("the same secret was made twice")
	}
	s.wantAnswer(t, subject.Source(t), lost, credential.Rejected)
	s.wantAnswer(t, subject.Source(t), kept, credential.Accepted)
	s.wantAccepts(t, subject, lost.material, false)
	s.wantAccepts(t, subject, kept.material, true)
}

func (s *Suite) mintedForNobody(t *testing.T) {
	t.Helper()
	if !s.Traits.Revocable {
		return // nothing can refuse it
	}
	subject := s.Fresh(t)
	proposed := s.propose(t, subject.Source(t), ref(4, s.a))
	lost := s.stageAs(t, subject.Source(t), ref(4, s.a), proposed)
	s.MustNot(t, subject.Source(t).Retire(s.Context(t), credential.Change{Ref: ref(4, s.a), Material: proposed}))
	s.wantAccepts(t, subject, lost.material, false)
}
