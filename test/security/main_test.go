// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package security

import (
	"os"
	"testing"

	"github.com/rekey/rekey/test/world"
)

func TestMain(m *testing.M) { os.Exit(world.Main(m, removeScratch)) }
