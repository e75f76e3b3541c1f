// SPDX-License-Identifier: Apache-2.0

package pool_test

import (
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

var compareAddresses = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func document() *pool.Document {
	return &pool.Document{
		Version:         pool.Version,
		Node:            "ip-10-0-0-12.ec2.internal",
		PrimaryAddress:  netip.MustParseAddr("10.0.0.12"),
		MTU:             9001,
		PodTable:        pool.PodTable,
		CooldownSeconds: 30,
		ENIs: []pool.ENI{{
			ID: "eni-1", MAC: "02:00:00:00:00:01", DeviceIndex: 1, RouteTable: pool.ENITable(1),
			Subnet: "subnet-1", SubnetCIDR: netip.MustParsePrefix("100.64.0.0/19"),
			PrimaryAddress: netip.MustParseAddr("100.64.3.7"),
			Prefixes:       []netip.Prefix{netip.MustParsePrefix("100.64.0.16/28"), netip.MustParsePrefix("100.64.9.9/32")},
		}},
		Shortage: &pool.Shortage{Reason: "NoFreePrefix", Message: "pod subnet subnet-1 has no free /28", Since: time.Unix(1000, 0).UTC()},
	}
}

func TestADocumentComesBackAsItWasWritten(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, pool.Write(dir, document()))
	got, err := pool.Read(dir)
	require.NoError(t, err)
	require.Empty(t, cmp.Diff(document(), got, compareAddresses))
	require.Equal(t, 17, got.Capacity())
	require.Equal(t, 30*time.Second, got.Cooldown())

	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "no temporary file stays behind")
	info, err := entries[0].Info()
	require.NoError(t, err)
	require.Equal(t, fs.FileMode(0o600), info.Mode())
}

func TestAMissingDocumentIsRecognisable(t *testing.T) {
	_, err := pool.Read(t.TempDir())
	require.ErrorIs(t, err, fs.ErrNotExist)
}

func TestAnUnknownVersionIsRefusedEvenWhenItsShapeIsStrange(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, pool.FileName), []byte(`{"version": 7, "enis": "elsewhere"}`), 0o600))
	_, err := pool.Read(dir)
	var unsupported *pool.UnsupportedVersionError
	require.ErrorAs(t, err, &unsupported)
	require.Equal(t, 7, unsupported.Version)
	require.ErrorContains(t, err, "understands only 1")
}

func TestADocumentThatWouldGiveAWrongAddressIsRefused(t *testing.T) {
	for name, breakIt := range map[string]func(*pool.Document){
		"overlapping prefixes": func(d *pool.Document) {
			d.ENIs[0].Prefixes = append(d.ENIs[0].Prefixes, netip.MustParsePrefix("100.64.0.17/32"))
		},
		"unaligned prefix": func(d *pool.Document) { d.ENIs[0].Prefixes[0] = netip.MustParsePrefix("100.64.0.17/28") },
		"IPv6 prefix":      func(d *pool.Document) { d.ENIs[0].Prefixes[0] = netip.MustParsePrefix("fd00::/28") },
		"other length":     func(d *pool.Document) { d.ENIs[0].Prefixes[0] = netip.MustParsePrefix("100.64.0.0/24") },
		"no node address":  func(d *pool.Document) { d.PrimaryAddress = netip.Addr{} },
		"no MTU":           func(d *pool.Document) { d.MTU = 0 },
		"shared table":     func(d *pool.Document) { d.ENIs[0].RouteTable = d.PodTable },
		"negative rest":    func(d *pool.Document) { d.CooldownSeconds = -1 },
	} {
		t.Run(name, func(t *testing.T) {
			doc := document()
			breakIt(doc)
			require.Error(t, pool.Write(t.TempDir(), doc))
		})
	}
}

func FuzzDecodeGivesAValidDocumentOrAnError(f *testing.F) {
	dir := f.TempDir()
	require.NoError(f, pool.Write(dir, document()))
	data, err := os.ReadFile(filepath.Join(dir, pool.FileName))
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte(`{"version":1}`))
	f.Add([]byte(`{"version":1,"primaryAddress":"10.0.0.1","mtu":1500,"podTable":512,"enis":[{"prefixes":["0.0.0.0/28"]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		doc, err := pool.Decode("pool.json", data)
		if err != nil {
			return
		}
		require.NoError(t, doc.Validate())
		require.GreaterOrEqual(t, doc.Capacity(), 0)
	})
}

func TestAConfinedDocumentHasNothingNew(t *testing.T) {
	prefixes := func(all ...string) (out []netip.Prefix) {
		for _, p := range all {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	before := &pool.Document{ENIs: []pool.ENI{{ID: "eni-1", Prefixes: prefixes("100.64.0.16/28", "100.64.0.32/28")}}}
	shortage := &pool.Shortage{Reason: "Unknown"}
	next := func() *pool.Document {
		return &pool.Document{Shortage: shortage, ENIs: []pool.ENI{
			{ID: "eni-1", Prefixes: prefixes("100.64.0.32/28", "100.64.0.48/28")},
			{ID: "eni-2", Prefixes: prefixes("100.64.0.16/28")}, // moved: its rule does not lead there yet
		}}
	}
	doc := next()
	doc.Confine(before)
	require.Equal(t, &pool.Document{Shortage: shortage, ENIs: []pool.ENI{{ID: "eni-1", Prefixes: prefixes("100.64.0.32/28")}}}, doc)
	doc = next()
	doc.Confine(nil)
	require.Empty(t, doc.ENIs)
}
