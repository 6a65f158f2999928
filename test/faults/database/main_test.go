// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/test/size"
	"github.com/rekey/rekey/test/world"
)

// lives is the number of credentials that live in parallel: most of them wait for a response that never comes.
const lives = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", lives); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(world.Main(m, servers.Stop))
}

// sample returns a random sample: some items in short size, more of them in full size, or all if there are fewer.
func sample[T any](random *rand.Rand, all []T, some, more int) []T {
	wanted := size.Number(some, more)
	if len(all) <= wanted {
		return all
	}
	out := make([]T, 0, wanted)
	for _, i := range random.Perm(len(all))[:wanted] {
		out = append(out, all[i])
	}
	return out
}

// servers are shared by all tests that do not damage them.
var servers pgtest.Shared
