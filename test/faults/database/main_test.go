// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package database

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rekey/rekey/internal/database/postgres/pgtest"
	"github.com/rekey/rekey/test/world"
)

// lives is how many credentials live at once: most of them wait for an answer that never comes.
const lives = "8"

func TestMain(m *testing.M) {
	flag.Parse()
	if err := flag.Set("test.parallel", lives); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(world.Main(m, stopServers))
}

// full tells whether there is time for more than a sample.
func full() bool { return os.Getenv("REKEY_SIZE") == "full" }

// seed of everything that is chosen by chance: REKEY_SEED, or another one each time.
var seed = sync.OnceValue(func() uint64 {
	if text := os.Getenv("REKEY_SEED"); text != "" {
		given, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			panic("REKEY_SEED is not a number: " + text)
		}
		return given
	}
	return uint64(time.Now().UnixNano())
})

// chance gives random numbers for a test, and says on failure how to have the same ones again.
func chance(t *testing.T) *rand.Rand {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("what was tried was chosen by chance; REKEY_SEED=%d chooses the same again", seed())
		}
	})
	return rand.New(rand.NewPCG(seed(), 0))
}

// sample gives so many of the things, by chance: some in short size, more in full; all where there are no more.
func sample[T any](random *rand.Rand, all []T, some, more int) []T {
	wanted := some
	if full() {
		wanted = more
	}
	if len(all) <= wanted {
		return all
	}
	out := make([]T, 0, wanted)
	for _, i := range random.Perm(len(all))[:wanted] {
		out = append(out, all[i])
	}
	return out
}

// servers are shared by all tests that do not harm them; each test has logins of its own.
var servers = struct {
	sync.Mutex
	byVersion map[int]*pgtest.Server
}{byVersion: map[int]*pgtest.Server{}}

func stopServers() {
	for _, server := range servers.byVersion {
		server.Stop()
	}
}

func sharedServer(t *testing.T, version int) *pgtest.Server {
	t.Helper()
	servers.Lock()
	defer servers.Unlock()
	if servers.byVersion[version] == nil {
		server, err := pgtest.Start(context.WithoutCancel(t.Context()), pgtest.Options{Version: version})
		if err != nil {
			t.Fatal(err)
		}
		servers.byVersion[version] = server
	}
	return servers.byVersion[version]
}

// ownServer is for a test that harms it.
func ownServer(t *testing.T, options pgtest.Options) *pgtest.Server {
	t.Helper()
	server, err := pgtest.Start(context.WithoutCancel(t.Context()), options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	return server
}
