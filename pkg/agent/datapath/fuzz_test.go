// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"net/netip"
	"testing"

	"github.com/mdlayher/netlink"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// FuzzMessagesOfTheKernelAreRead: a kernel that is newer than this code may send attributes that it does not know. Neither end the agent, nor
// is a connection taken for one of the address that is not.
func FuzzMessagesOfTheKernelAreRead(f *testing.F) {
	address := netip.MustParseAddr("100.64.0.17")
	source := netlink.NewAttributeEncoder()
	source.Nested(ctaTupleOrig, func(tuple *netlink.AttributeEncoder) error {
		tuple.Nested(ctaTupleIP, func(ip *netlink.AttributeEncoder) error {
			ip.Bytes(ctaIPv4Source, address.AsSlice())
			return nil
		})
		return nil
	})
	entry, err := source.Encode()
	require.NoError(f, err)
	table := netlink.NewAttributeEncoder()
	table.String(unix.NFTA_TABLE_NAME, tableName)
	object, err := table.Encode()
	require.NoError(f, err)
	for _, data := range [][]byte{nil, {0}, entry, append([]byte{0, 0, 0, 0}, object...), {4, 0, 1, 0}, {3, 0, 1, 128, 1}} {
		f.Add(uint16(unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_NEWTABLE), data)
	}
	f.Fuzz(func(t *testing.T, kind uint16, data []byte) {
		m := netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(kind)}, Data: data}
		if isOwnTable(m) {
			require.Equal(t, uint16(unix.NFNL_SUBSYS_NFTABLES), kind>>8)
		}
		attributes, err := netlink.UnmarshalAttributes(data)
		if err != nil {
			return
		}
		if sourceIs(attributes, ctaTupleOrig, address) {
			require.Contains(t, string(data), string(address.AsSlice()))
		}
	})
}
