// SPDX-License-Identifier: Apache-2.0

// Package pool holds what a node knows about its pod addresses: the document
// through which the agent publishes them to the CNI plugin, and the pure
// decision how many more are needed and where to get them.
//
// The plugin imports this package and is executed for every pod, so nothing
// here may import an AWS SDK or a Kubernetes client.
package pool

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// Version is the format of the document that this code writes and reads.
// A reader refuses any other: a plugin that guesses gives an address twice.
const Version = 1

// FileName is the document's name inside the state directory.
const FileName = "pool.json"

const (
	// PodTable is the route table that holds one /32 route a pod and nothing else.
	PodTable = 512
	// eniTableBase plus an ENI's device index is the ENI's route table.
	eniTableBase = 1000
)

// ENITable is the route table of the ENI with the given device index.
func ENITable(deviceIndex int) int { return eniTableBase + deviceIndex }

// Document is pool.json: written by the agent, read by the plugin.
type Document struct {
	Version int    `json:"version"`
	Node    string `json:"node"`
	// PrimaryAddress is the node's own address, of its primary ENI.
	PrimaryAddress netip.Addr `json:"primaryAddress"`
	// MTU of the pods' interfaces, in bytes.
	MTU int `json:"mtu"`
	// PodTable is the route table in which the plugin writes a pod's route.
	PodTable int `json:"podTable"`
	// CooldownSeconds is how long a released address rests before it is given again.
	CooldownSeconds int `json:"cooldownSeconds"`
	// ENIs are the pod ENIs whose links and routes are in place, by device index.
	ENIs []ENI `json:"enis"`
	// Shortage is set while the agent wants more addresses than it can get.
	Shortage *Shortage `json:"shortage,omitempty"`
}

// ENI is one elastic network interface that pods take their addresses from.
type ENI struct {
	ID          string `json:"id"`
	MAC         string `json:"mac"`
	DeviceIndex int    `json:"deviceIndex"`
	// RouteTable holds the routes that lead out through this ENI.
	RouteTable     int          `json:"routeTable"`
	Subnet         string       `json:"subnet"`
	SubnetCIDR     netip.Prefix `json:"subnetCIDR"`
	PrimaryAddress netip.Addr   `json:"primaryAddress"`
	// Prefixes are delegated /28s and, where there was no /28, single addresses as /32s.
	Prefixes []netip.Prefix `json:"prefixes"`
}

// Shortage tells why the node has fewer addresses than it wants.
type Shortage struct {
	// Reason is a word in CamelCase, the reason of the event on the node.
	Reason string `json:"reason"`
	// Message is a sentence for a person: what is short, where, and what was tried.
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
}

// UnsupportedVersionError reports a document of a format that this code does not know.
type UnsupportedVersionError struct {
	Path    string
	Version int
}

func (e *UnsupportedVersionError) Error() string {
	return fmt.Sprintf("%s has format version %d, this program understands only %d: the agent and the plugin are of different releases", e.Path, e.Version, Version)
}

// Prefixes are the pods' prefixes over all ENIs, in the order of the document.
func (d *Document) Prefixes() []netip.Prefix {
	var all []netip.Prefix
	for _, eni := range d.ENIs {
		all = append(all, eni.Prefixes...)
	}
	return all
}

// Capacity is the number of pod addresses in the document.
func (d *Document) Capacity() int { return Addresses(d.Prefixes()) }

// Confine takes away what an earlier document does not have; nil has nothing.
func (d *Document) Confine(before *Document) {
	known := map[netip.Prefix]string{}
	if before != nil {
		for _, eni := range before.ENIs {
			for _, p := range eni.Prefixes {
				known[p] = eni.ID
			}
		}
	}
	for i := range d.ENIs {
		eni := &d.ENIs[i]
		eni.Prefixes = slices.DeleteFunc(slices.Clone(eni.Prefixes), func(p netip.Prefix) bool { return known[p] != eni.ID })
	}
	d.ENIs = slices.DeleteFunc(d.ENIs, func(eni ENI) bool { return len(eni.Prefixes) == 0 })
}

// Cooldown is CooldownSeconds as a duration.
func (d *Document) Cooldown() time.Duration {
	return time.Duration(d.CooldownSeconds) * time.Second
}

// Addresses counts the addresses in a list of IPv4 prefixes.
func Addresses(prefixes []netip.Prefix) int {
	n := 0
	for _, p := range prefixes {
		n += 1 << (p.Addr().BitLen() - p.Bits())
	}
	return n
}

// Validate reports everything that would make a reader give a wrong address.
func (d *Document) Validate() error {
	var errs []error
	if !d.PrimaryAddress.Is4() {
		errs = append(errs, fmt.Errorf("primaryAddress %q is no IPv4 address", d.PrimaryAddress))
	}
	if d.MTU < 576 || d.MTU > 9001 {
		errs = append(errs, fmt.Errorf("mtu %d is outside of 576..9001", d.MTU))
	}
	if d.PodTable <= 0 {
		errs = append(errs, fmt.Errorf("podTable %d is no route table", d.PodTable))
	}
	if d.CooldownSeconds < 0 {
		errs = append(errs, fmt.Errorf("cooldownSeconds %d is negative", d.CooldownSeconds))
	}
	var seen []netip.Prefix
	for _, eni := range d.ENIs {
		if eni.RouteTable <= 0 || eni.RouteTable == d.PodTable {
			errs = append(errs, fmt.Errorf("ENI %s: routeTable %d is no table of its own", eni.ID, eni.RouteTable))
		}
		for _, p := range eni.Prefixes {
			if !p.Addr().Is4() || (p.Bits() != PrefixLength && p.Bits() != 32) || p.Masked() != p {
				errs = append(errs, fmt.Errorf("ENI %s: %s is neither an aligned IPv4 /%d nor a /32", eni.ID, p, PrefixLength))
				continue
			}
			for _, other := range seen {
				if other.Overlaps(p) {
					errs = append(errs, fmt.Errorf("ENI %s: %s overlaps %s", eni.ID, p, other))
				}
			}
			seen = append(seen, p)
		}
	}
	return errors.Join(errs...)
}

// Decode parses and validates a document. The version is looked at before
// anything else, so that a newer format is reported as such and not as a
// syntax error somewhere in it.
func Decode(path string, data []byte) (*Document, error) {
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return nil, fmt.Errorf("parsing %s: %w", path, err)
	}
	if head.Version != Version {
		return nil, &UnsupportedVersionError{Path: path, Version: head.Version}
	}
	doc := &Document{}
	if err := json.Unmarshal(data, doc); err != nil {
		return nil, fmt.Errorf("parsing %s: %w", path, err)
	}
	if err := doc.Validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return doc, nil
}

// Read reads the document of a state directory. It is fs.ErrNotExist when the
// agent has not published one since the node booted.
func Read(dir string) (*Document, error) {
	path := filepath.Join(dir, FileName)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading the address pool: %w", err)
	}
	return Decode(path, data)
}

// Write publishes the document: a reader sees the old one or the new one, whole.
func Write(dir string, doc *Document) error {
	doc.Version = Version
	if err := doc.Validate(); err != nil {
		return fmt.Errorf("refusing to publish an invalid address pool: %w", err)
	}
	data, err := json.MarshalIndent(doc, "", "  ")
	if err != nil {
		return fmt.Errorf("encoding the address pool: %w", err)
	}
	return WriteFileAtomically(filepath.Join(dir, FileName), append(data, '\n'), 0o600)
}

// WriteFileAtomically replaces a file so that whoever opens it, at any moment
// and after a crash at any moment, finds the old or the new content.
func WriteFileAtomically(path string, data []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("creating a temporary file: %w", err)
	}
	defer os.Remove(tmp.Name()) // fails once it is renamed, and that is fine
	_, err = tmp.Write(data)
	err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close())
	if err != nil {
		return fmt.Errorf("writing %s: %w", tmp.Name(), err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("replacing %s: %w", path, err)
	}
	return nil
}
