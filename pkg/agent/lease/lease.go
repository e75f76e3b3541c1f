// SPDX-License-Identifier: Apache-2.0

// Package lease gives each pod sandbox an address of the node's pool and remembers it in files, so that no daemon is
// needed to start or stop a pod.
//
//	leases/<address>   who holds the address (JSON); made by link(2) of a complete file, so it is whole or absent
//	owners/<hash>      a symbolic link that names the address: an owner's lease is found without reading all
//	cooling/<address>  an address that rests; the file's time is the time of its release
//
// One lock serialises all writers. A crash between any two steps leaves one of these, and what the next call makes of it:
//
//	Acquire: owners/x -> a, then leases/a
//	   only owners/x        names no lease of x: ignored and replaced
//	Release: leases/a becomes cooling/a, then owners/x away
//	   cooling/a, owners/x  as above: owners/x names no lease of x
//
// So no address is given twice, and none is lost. Release makes no file: a pod ends on a file system that is full.
package lease

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
)

// Version is the format of a lease that this code writes and reads.
const Version = 1

// Owner is a pod sandbox's interface.
type Owner struct {
	ContainerID string `json:"containerID"`
	IfName      string `json:"ifName"`
}

func (o Owner) hash() string {
	sum := sha256.Sum256([]byte(o.ContainerID + "\x00" + o.IfName))
	return hex.EncodeToString(sum[:16])
}

// Lease of an address.
type Lease struct {
	Version int        `json:"version"`
	Address netip.Addr `json:"address"`
	Owner
	Pod  string    `json:"pod"` // namespace/name
	Time time.Time `json:"time"`
}

// ErrNoFreeAddress says that each address of the pool is leased or cools down.
var ErrNoFreeAddress = errors.New("no free address in the pool")

// UnsupportedVersionError reports a lease of a format that this code does not know. Such a lease is never touched.
type UnsupportedVersionError struct {
	Path    string
	Version int
}

func (e *UnsupportedVersionError) Error() string {
	return fmt.Sprintf("%s has format version %d, this program understands only %d: the agent and the plugin are of different releases", e.Path, e.Version, Version)
}

// Store is the leases of a node.
type Store struct {
	dir  string
	lock *flock.Flock
}

const (
	leasesDir, ownersDir, coolingDir, newDir = "leases", "owners", "cooling", "new"
)

// Open makes the folders where they are missing. Only root may look into them.
func Open(dir string) (*Store, error) {
	for _, name := range []string{leasesDir, ownersDir, coolingDir, newDir} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o700); err != nil {
			return nil, fmt.Errorf("opening the leases: %w", err)
		}
	}
	return &Store{dir: dir, lock: flock.New(filepath.Join(dir, "lock"))}, nil
}

func (s *Store) path(parts ...string) string {
	return filepath.Join(append([]string{s.dir}, parts...)...)
}

// locked runs f while no other process changes leases.
func (s *Store) locked(f func() error) error {
	lock := flock.New(s.lock.Path()) // one each, so that goroutines of a process exclude each other too
	if err := lock.Lock(); err != nil {
		return fmt.Errorf("locking the leases: %w", err)
	}
	return errors.Join(f(), lock.Close())
}

// Request for an address.
type Request struct {
	Owner
	Pod string
	// Pool is read under the store's lock. The agent takes a prefix that it gives back from the pool and looks at the leases after
	// that: either it sees a lease that was made before, or the lease is not made.
	Pool func() (Pool, error)
	Now  time.Time
}

// Pool of addresses to lease.
type Pool struct {
	// Prefixes to choose from; the fullest that has room is taken, so that others become wholly free.
	Prefixes []netip.Prefix
	Cooldown time.Duration
}

func (p Pool) contains(a netip.Addr) bool {
	return slices.ContainsFunc(p.Prefixes, func(prefix netip.Prefix) bool { return prefix.Contains(a) })
}

// Acquire leases an address. The owner of a lease gets the same address again while the pool has it.
func (s *Store) Acquire(r Request) (address netip.Addr, err error) {
	err = s.locked(func() error {
		pool, err := r.Pool()
		if err != nil {
			return err
		}
		held, err := s.find(r.Owner)
		switch {
		case err == nil && pool.contains(held.Address):
			address = held.Address
			return nil
		case err == nil:
			err = s.release(r.Owner, r.Now)
		case errors.Is(err, fs.ErrNotExist):
			err = nil
		}
		if err != nil {
			return err
		}
		if address, err = s.choose(pool, r.Now); err != nil {
			return err
		}
		return s.write(Lease{Version: Version, Address: address, Owner: r.Owner, Pod: r.Pod, Time: r.Now})
	})
	return address, err
}

func (s *Store) write(l Lease) error {
	content, err := json.Marshal(l)
	if err != nil {
		return err
	}
	index, whole := s.path(ownersDir, l.hash()), s.path(newDir, l.hash())
	err = func() error {
		if err := os.Remove(index); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("replacing a stale index: %w", err)
		}
		if err := os.Symlink(l.Address.String(), index); err != nil {
			return fmt.Errorf("indexing the lease: %w", err)
		}
		if err := os.WriteFile(whole, content, 0o600); err != nil {
			return fmt.Errorf("writing the lease: %w", err)
		}
		if err := os.Link(whole, s.path(leasesDir, l.Address.String())); err != nil {
			return fmt.Errorf("leasing %s: %w", l.Address, err)
		}
		return nil
	}()
	if err != nil {
		_ = os.Remove(index) // names no lease: it would do no harm
	}
	_ = os.Remove(whole) // nor would this; see tidy
	return err
}

// find returns the owner's lease, fs.ErrNotExist when it has none.
func (s *Store) find(owner Owner) (Lease, error) {
	address, err := os.Readlink(s.path(ownersDir, owner.hash()))
	if err != nil {
		return Lease{}, err
	}
	held, err := s.read(address)
	if err != nil {
		return Lease{}, err
	}
	if held.Owner != owner {
		return Lease{}, fmt.Errorf("lease of %s: %w", address, fs.ErrNotExist)
	}
	return held, nil
}

func (s *Store) read(address string) (Lease, error) {
	path := s.path(leasesDir, address)
	content, err := os.ReadFile(path)
	if err != nil {
		return Lease{}, err
	}
	var l Lease
	if err := json.Unmarshal(content, &l); err != nil {
		return Lease{}, fmt.Errorf("%s is no lease: %w", path, err)
	}
	if l.Version != Version {
		return Lease{}, &UnsupportedVersionError{Path: path, Version: l.Version}
	}
	return l, nil
}

// choose takes the lowest free address of the fullest prefix that has one. Of two that are as full a /28 is taken: a single
// address that stays free can be given back, for a prefix to take its slot on the ENI.
func (s *Store) choose(pool Pool, now time.Time) (netip.Addr, error) {
	taken, err := s.taken(pool.Cooldown, now)
	if err != nil {
		return netip.Addr{}, err
	}
	best, fullest, bits := netip.Addr{}, -1, 0
	for _, prefix := range pool.Prefixes {
		used, free := 0, netip.Addr{}
		for a := prefix.Addr(); prefix.Contains(a); a = a.Next() {
			if taken[a] {
				used++
			} else if !free.IsValid() {
				free = a
			}
		}
		if free.IsValid() && (used > fullest || used == fullest && prefix.Bits() < bits) {
			best, fullest, bits = free, used, prefix.Bits()
		}
	}
	if fullest < 0 {
		return netip.Addr{}, ErrNoFreeAddress
	}
	return best, nil
}

// taken lists what is leased or cools down, and forgets what has cooled.
func (s *Store) taken(cooldown time.Duration, now time.Time) (map[netip.Addr]bool, error) {
	taken := map[netip.Addr]bool{}
	leased, err := names(s.path(leasesDir))
	if err != nil {
		return nil, err
	}
	for _, a := range leased {
		taken[a] = true
	}
	cooling, err := s.cooling(cooldown, now)
	if err != nil {
		return nil, err
	}
	for _, a := range cooling {
		taken[a] = true
	}
	return taken, nil
}

func (s *Store) cooling(cooldown time.Duration, now time.Time) ([]netip.Addr, error) {
	released, err := names(s.path(coolingDir))
	if err != nil {
		return nil, err
	}
	var cooling []netip.Addr
	for _, a := range released {
		info, err := os.Stat(s.path(coolingDir, a.String()))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if now.Sub(info.ModTime()) < cooldown {
			cooling = append(cooling, a)
		} else if err := os.Remove(s.path(coolingDir, a.String())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return cooling, nil
}

func names(dir string) ([]netip.Addr, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var addresses []netip.Addr
	for _, entry := range entries {
		if a, err := netip.ParseAddr(entry.Name()); err == nil {
			addresses = append(addresses, a)
		}
	}
	return addresses, nil
}

// Release lets the owner's address cool down. An owner without a lease is no error: DEL may come twice.
func (s *Store) Release(owner Owner, now time.Time) error {
	return s.locked(func() error { return s.release(owner, now) })
}

func (s *Store) release(owner Owner, now time.Time) error {
	held, err := s.find(owner)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	default:
		leased := s.path(leasesDir, held.Address.String())
		if err := os.Chtimes(leased, now, now); err != nil {
			return fmt.Errorf("releasing %s: %w", held.Address, err)
		}
		if err := os.Rename(leased, s.path(coolingDir, held.Address.String())); err != nil {
			return fmt.Errorf("releasing %s: %w", held.Address, err)
		}
	}
	if err := os.Remove(s.path(ownersDir, owner.hash())); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("releasing the owner's index: %w", err)
	}
	return nil
}

// Get returns the owner's lease, fs.ErrNotExist when it has none.
func (s *Store) Get(owner Owner) (l Lease, err error) {
	err = s.locked(func() (err error) {
		l, err = s.find(owner)
		return err
	})
	return l, err
}

// List returns all leases.
func (s *Store) List() (leases []Lease, err error) {
	err = s.locked(func() (err error) {
		leases, err = s.list()
		return err
	})
	return leases, err
}

func (s *Store) list() ([]Lease, error) {
	addresses, err := names(s.path(leasesDir))
	if err != nil {
		return nil, err
	}
	var leases []Lease
	for _, a := range addresses {
		l, err := s.read(a.String())
		if err != nil {
			return nil, err
		}
		leases = append(leases, l)
	}
	return leases, nil
}

// Collect releases the leases of all owners that are not valid, as the runtime's GC asks.
func (s *Store) Collect(valid []Owner, now time.Time) error {
	keep := map[Owner]bool{}
	for _, owner := range valid {
		keep[owner] = true
	}
	return s.Sweep(now, func(leases []Lease) ([]Lease, error) {
		return slices.DeleteFunc(slices.Clone(leases), func(l Lease) bool { return keep[l.Owner] }), nil
	})
}

// Sweep calls choose with all leases while no other process changes any, and releases those that it returns. Files that killed
// processes left go too.
func (s *Store) Sweep(now time.Time, choose func([]Lease) ([]Lease, error)) error {
	return s.locked(func() error {
		leases, err := s.list()
		if err != nil {
			return err
		}
		gone, err := choose(leases)
		errs := []error{err}
		for _, l := range gone {
			errs = append(errs, s.release(l.Owner, now))
		}
		return errors.Join(append(errs, s.tidy(leases))...)
	})
}

// tidy removes leases that were not finished, and indexes of leases that are no more.
func (s *Store) tidy(leases []Lease) error {
	indexed := map[string]bool{}
	for _, l := range leases {
		indexed[l.hash()] = true
	}
	var errs []error
	for _, dir := range []string{newDir, ownersDir} {
		entries, err := os.ReadDir(s.path(dir))
		errs = append(errs, err)
		for _, entry := range entries {
			if dir == ownersDir && indexed[entry.Name()] {
				continue
			}
			if err := os.Remove(s.path(dir, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// Cooling lists the addresses that rest.
func (s *Store) Cooling(cooldown time.Duration, now time.Time) (addresses []netip.Addr, err error) {
	err = s.locked(func() (err error) {
		addresses, err = s.cooling(cooldown, now)
		return err
	})
	return addresses, err
}

// Usage counts leased and cooling addresses.
func (s *Store) Usage(cooldown time.Duration, now time.Time) (leased, cooling int, err error) {
	err = s.locked(func() error {
		held, err := names(s.path(leasesDir))
		if err != nil {
			return err
		}
		resting, err := s.cooling(cooldown, now)
		leased, cooling = len(held), len(resting)
		return err
	})
	return leased, cooling, err
}
