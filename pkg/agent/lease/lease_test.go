// SPDX-License-Identifier: Apache-2.0

package lease_test

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
)

var (
	epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	two   = []netip.Prefix{netip.MustParsePrefix("100.64.0.16/28"), netip.MustParsePrefix("100.64.0.64/28")}
)

func owner(n int) lease.Owner { return lease.Owner{ContainerID: fmt.Sprintf("c%d", n), IfName: "eth0"} }

func request(n int, at time.Time) lease.Request {
	return lease.Request{Owner: owner(n), Pod: fmt.Sprintf("default/p%d", n), Pool: pool(two...), Now: at}
}

func pool(prefixes ...netip.Prefix) func() (lease.Pool, error) {
	return func() (lease.Pool, error) { return lease.Pool{Prefixes: prefixes, Cooldown: 30 * time.Second}, nil }
}

func open(t *testing.T) (*lease.Store, string) {
	t.Helper()
	dir := t.TempDir()
	s, err := lease.Open(dir)
	require.NoError(t, err)
	return s, dir
}

func acquire(t *testing.T, s *lease.Store, n int, at time.Time) netip.Addr {
	t.Helper()
	a, err := s.Acquire(request(n, at))
	require.NoError(t, err)
	return a
}

func TestAnOwnerGetsItsAddressAgain(t *testing.T) {
	s, _ := open(t)
	first := acquire(t, s, 1, epoch)
	require.Equal(t, first, acquire(t, s, 1, epoch))
	require.NotEqual(t, first, acquire(t, s, 2, epoch))
	l, err := s.Get(owner(1))
	require.NoError(t, err)
	require.Equal(t, "default/p1", l.Pod)
	require.Equal(t, first, l.Address)
}

func TestAddressesFillOnePrefixBeforeTheNext(t *testing.T) {
	s, _ := open(t)
	for n := range 16 {
		require.True(t, two[0].Contains(acquire(t, s, n, epoch)))
	}
	require.True(t, two[1].Contains(acquire(t, s, 16, epoch)))
	require.NoError(t, s.Release(owner(3), epoch))
	// The first prefix is the fullest again once the address has cooled.
	require.True(t, two[1].Contains(acquire(t, s, 17, epoch.Add(29*time.Second))))
	require.True(t, two[0].Contains(acquire(t, s, 18, epoch.Add(31*time.Second))))
}

func TestASingleAddressIsTakenAfterAnEmptyPrefix(t *testing.T) {
	s, _ := open(t)
	mixed := request(0, epoch)
	mixed.Pool = pool(netip.MustParsePrefix("100.64.0.5/32"), two[0])
	for n := range 17 {
		mixed.Owner = owner(n)
		a, err := s.Acquire(mixed)
		require.NoError(t, err)
		require.Equal(t, n < 16, two[0].Contains(a), "%d: %s", n, a)
	}
}

func TestAReleasedAddressCoolsBeforeItIsGivenAgain(t *testing.T) {
	s, dir := open(t)
	one := request(1, epoch)
	one.Pool = pool(netip.MustParsePrefix("100.64.0.5/32"))
	_, err := s.Acquire(one)
	require.NoError(t, err)
	require.NoError(t, s.Release(owner(1), epoch))
	require.NoError(t, s.Release(owner(1), epoch.Add(time.Second)), "again does no harm and does not cool longer")

	again := one
	again.Owner, again.Now = owner(2), epoch.Add(29*time.Second)
	_, err = s.Acquire(again)
	require.ErrorIs(t, err, lease.ErrNoFreeAddress)

	reopened, err := lease.Open(dir) // as a plugin process that starts later
	require.NoError(t, err)
	again.Now = epoch.Add(31 * time.Second)
	_, err = reopened.Acquire(again)
	require.NoError(t, err)
}

func TestAnOwnerMovesOffAPrefixThatTheNodeGivesBack(t *testing.T) {
	s, _ := open(t)
	first := acquire(t, s, 1, epoch)
	left := request(1, epoch)
	left.Pool = pool(two[1])
	second, err := s.Acquire(left)
	require.NoError(t, err)
	require.True(t, two[1].Contains(second))
	cooling, err := s.Cooling(30*time.Second, epoch)
	require.NoError(t, err)
	require.Equal(t, []netip.Addr{first}, cooling)
	leases, err := s.List()
	require.NoError(t, err)
	require.Len(t, leases, 1)
}

func TestUsageCountsLeasedAndCooling(t *testing.T) {
	s, _ := open(t)
	for n := range 5 {
		acquire(t, s, n, epoch)
	}
	require.NoError(t, s.Release(owner(0), epoch))
	leased, cooling, err := s.Usage(30*time.Second, epoch.Add(time.Second))
	require.NoError(t, err)
	require.Equal(t, []int{4, 1}, []int{leased, cooling})
	_, cooling, err = s.Usage(30*time.Second, epoch.Add(time.Minute))
	require.NoError(t, err)
	require.Zero(t, cooling)
}

func TestCollectReleasesWhatTheRuntimeDoesNotKnow(t *testing.T) {
	s, _ := open(t)
	for n := range 4 {
		acquire(t, s, n, epoch)
	}
	require.NoError(t, s.Collect([]lease.Owner{owner(1), owner(3)}, epoch))
	leases, err := s.List()
	require.NoError(t, err)
	require.Len(t, leases, 2)
}

func TestALeaseOfAnotherFormatIsRefusedAndKept(t *testing.T) {
	s, dir := open(t)
	a := acquire(t, s, 1, epoch)
	path := filepath.Join(dir, "leases", a.String())
	require.NoError(t, os.WriteFile(path, []byte(`{"version":99}`), 0o600))
	var unsupported *lease.UnsupportedVersionError
	require.ErrorAs(t, s.Release(owner(1), epoch), &unsupported)
	require.FileExists(t, path)
}

func TestConcurrentPluginsNeverShareAnAddress(t *testing.T) {
	_, dir := open(t)
	var mu sync.Mutex
	seen := map[netip.Addr]int{}
	var group sync.WaitGroup
	for n := range 32 {
		group.Go(func() {
			s, err := lease.Open(dir)
			if err != nil {
				t.Error(err)
				return
			}
			a, err := s.Acquire(request(n, epoch))
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			seen[a]++
			mu.Unlock()
		})
	}
	group.Wait()
	require.Len(t, seen, 32)
}

// snapshot copies a state directory, as a crash at this moment leaves it.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	to := t.TempDir()
	require.NoError(t, filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		require.NoError(t, err)
		target := filepath.Join(to, path[len(dir):])
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, 0o700)
		case entry.Type()&fs.ModeSymlink != 0:
			link, err := os.Readlink(path)
			require.NoError(t, err)
			return os.Symlink(link, target)
		default:
			content, err := os.ReadFile(path)
			require.NoError(t, err)
			return os.WriteFile(target, content, 0o600)
		}
	}))
	return to
}

// A crash between the steps that the package comment lists leaves these states; from each the next calls must go on.
func TestEveryPointOfACrashIsRecoveredFrom(t *testing.T) {
	s, dir := open(t)
	a := acquire(t, s, 1, epoch)
	leasePath := func(dir string) string { return filepath.Join(dir, "leases", a.String()) }

	t.Run("Acquire had indexed and not leased", func(t *testing.T) {
		dir := snapshot(t, dir)
		require.NoError(t, os.Remove(leasePath(dir)))
		s, err := lease.Open(dir)
		require.NoError(t, err)
		require.NoError(t, s.Release(owner(1), epoch), "a DEL for the ADD that failed")
		require.Equal(t, a, acquire(t, s, 2, epoch), "the address was never given")
	})
	t.Run("Acquire had indexed, and another owner got the address", func(t *testing.T) {
		dir := snapshot(t, dir)
		require.NoError(t, os.Remove(leasePath(dir)))
		s, err := lease.Open(dir)
		require.NoError(t, err)
		require.Equal(t, a, acquire(t, s, 2, epoch))
		require.NoError(t, s.Release(owner(1), epoch))
		_, err = s.Get(owner(2))
		require.NoError(t, err, "the other's lease stays")
		require.NotEqual(t, a, acquire(t, s, 1, epoch))
	})
	t.Run("Release had released and not unindexed", func(t *testing.T) {
		dir := snapshot(t, dir)
		require.NoError(t, os.Remove(leasePath(dir)))
		require.NoError(t, os.WriteFile(filepath.Join(dir, "cooling", a.String()), nil, 0o600))
		s, err := lease.Open(dir)
		require.NoError(t, err)
		require.NoError(t, s.Release(owner(1), epoch))
		entries, err := os.ReadDir(filepath.Join(dir, "owners"))
		require.NoError(t, err)
		require.Empty(t, entries)
	})
	t.Run("a half-written new lease is left over", func(t *testing.T) {
		dir := snapshot(t, dir)
		require.NoError(t, os.WriteFile(filepath.Join(dir, "new", "leftover"), []byte("{"), 0o600))
		s, err := lease.Open(dir)
		require.NoError(t, err)
		acquire(t, s, 2, epoch)
		require.NoError(t, s.Collect([]lease.Owner{owner(1), owner(2)}, epoch))
		require.NoFileExists(t, filepath.Join(dir, "new", "leftover"))
	})
	t.Run("indexes are left over", func(t *testing.T) {
		dir := snapshot(t, dir)
		require.NoError(t, os.Symlink("100.64.0.17", filepath.Join(dir, "owners", "leftover")))
		s, err := lease.Open(dir)
		require.NoError(t, err)
		require.NoError(t, s.Collect([]lease.Owner{owner(1)}, epoch))
		entries, err := os.ReadDir(filepath.Join(dir, "owners"))
		require.NoError(t, err)
		require.Len(t, entries, 1)
		require.Equal(t, a, acquire(t, s, 1, epoch))
	})
}

func TestRandomOperationsKeepOneLeaseAnOwnerAndOneOwnerAnAddress(t *testing.T) {
	random := rand.New(rand.NewPCG(7, 8))
	s, _ := open(t)
	now := epoch
	model := map[int]netip.Addr{}
	for range 600 {
		now = now.Add(time.Duration(random.IntN(20)) * time.Second)
		n := random.IntN(40)
		if random.IntN(2) == 0 {
			require.NoError(t, s.Release(owner(n), now))
			delete(model, n)
			continue
		}
		a, err := s.Acquire(request(n, now))
		if err != nil {
			require.ErrorIs(t, err, lease.ErrNoFreeAddress)
			continue
		}
		if held, ok := model[n]; ok {
			require.Equal(t, held, a)
		}
		for other, held := range model {
			if other != n {
				require.NotEqual(t, held, a)
			}
		}
		model[n] = a
	}
	leases, err := s.List()
	require.NoError(t, err)
	require.Len(t, leases, len(model))
}
