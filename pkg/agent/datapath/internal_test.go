// SPDX-License-Identifier: Apache-2.0

package datapath

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"github.com/stretchr/testify/require"
	vishnetlink "github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestAnInterruptedDumpIsNeverUsed(t *testing.T) {
	calls := 0
	got, err := dump(func() ([]int, error) {
		if calls++; calls < 4 {
			return []int{1}, vishnetlink.ErrDumpInterrupted
		}
		return []int{1, 2}, nil
	})
	require.NoError(t, err)
	require.Equal(t, []int{1, 2}, got)

	got, err = dump(func() ([]int, error) { return []int{1}, vishnetlink.ErrDumpInterrupted })
	require.ErrorIs(t, err, vishnetlink.ErrDumpInterrupted)
	require.Empty(t, got)

	calls = 0
	refused := errors.New("refused")
	_, err = dump(func() ([]int, error) { calls++; return nil, refused })
	require.ErrorIs(t, err, refused)
	require.Equal(t, 1, calls)
}

func TestElements(t *testing.T) {
	type interval struct{ first, end string }
	for name, test := range map[string]struct {
		prefixes []string
		want     []interval
	}{
		"none":       {nil, nil},
		"apart":      {[]string{"10.1.0.0/16", "10.3.0.0/16"}, []interval{{"10.1.0.0", "10.2.0.0"}, {"10.3.0.0", "10.4.0.0"}}},
		"neighbours": {[]string{"10.1.0.0/16", "10.0.0.0/16"}, []interval{{"10.0.0.0", "10.2.0.0"}}},
		"within":     {[]string{"10.0.0.0/8", "10.3.0.0/16", "10.4.0.0/16"}, []interval{{"10.0.0.0", "11.0.0.0"}}},
		"everything": {[]string{"0.0.0.0/0", "10.0.0.0/16"}, []interval{{"0.0.0.0", ""}}},
		"to the end": {[]string{"10.0.0.0/16", "240.0.0.0/4", "255.255.255.255/32"}, []interval{{"10.0.0.0", "10.1.0.0"}, {"240.0.0.0", ""}}},
		"host bits":  {[]string{"10.0.255.255/16"}, []interval{{"10.0.0.0", "10.1.0.0"}}},
	} {
		t.Run(name, func(t *testing.T) {
			var prefixes []netip.Prefix
			for _, p := range test.prefixes {
				prefixes = append(prefixes, netip.MustParsePrefix(p))
			}
			var want []nftables.SetElement
			for _, i := range test.want {
				want = append(want, nftables.SetElement{Key: netip.MustParseAddr(i.first).AsSlice()})
				if i.end != "" {
					want = append(want, nftables.SetElement{Key: netip.MustParseAddr(i.end).AsSlice(), IntervalEnd: true})
				}
			}
			require.Equal(t, want, elements(prefixes))
		})
	}
}

// The other 31 bits belong to others: kube-proxy has 0x4000 and 0x8000 (amazon-vpc-cni-k8s #3872).
func TestNoOtherBitOfAMarkIsWrittenOrRead(t *testing.T) {
	a := &applier{state: State{SNAT: true, PrimaryAddress: netip.MustParseAddr("10.0.0.10")}, primary: &vishnetlink.Dummy{}}
	masks := 0
	for chain, rules := range a.nftRules() {
		for _, rule := range rules {
			for i, e := range rule.exprs {
				writes, reads := writesMark(e), readsMark(e)
				if !writes && !reads {
					continue
				}
				var bits *expr.Bitwise
				if writes {
					bits, _ = rule.exprs[i-1].(*expr.Bitwise)
				} else {
					bits, _ = rule.exprs[i+1].(*expr.Bitwise)
				}
				require.NotNil(t, bits, "%s: a mark is used whole", chain)
				if writes {
					require.Equal(t, []byte{0x7f, 0xff, 0xff, 0xff}, bits.Mask, chain)
					require.Equal(t, []byte{0x80, 0, 0, 0}, bits.Xor, chain)
					masks++
				}
			}
		}
	}
	require.Equal(t, 3, masks)
	rule := a.wantedRules()["1024: from all fwmark 0x80/0x80 lookup 254"]
	require.NotNil(t, rule)
}

func readsMark(e expr.Any) bool {
	switch e := e.(type) {
	case *expr.Ct:
		return e.Key == expr.CtKeyMARK && !e.SourceRegister
	case *expr.Meta:
		return e.Key == expr.MetaKeyMARK && !e.SourceRegister
	}
	return false
}

func writesMark(e expr.Any) bool {
	switch e := e.(type) {
	case *expr.Ct:
		return e.Key == expr.CtKeyMARK && e.SourceRegister
	case *expr.Meta:
		return e.Key == expr.MetaKeyMARK && e.SourceRegister
	}
	return false
}

func TestEventsOfKubeProxysTablesAreNotOurs(t *testing.T) {
	message := func(kind uint16, table string) netlink.Message {
		attributes, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: unix.NFTA_TABLE_NAME, Data: []byte(table + "\x00")}})
		require.NoError(t, err)
		return netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind)},
			Data:   append([]byte{unix.NFPROTO_IPV4, 0, 0, 0}, attributes...),
		}
	}
	require.True(t, isOwnTable(message(unix.NFT_MSG_DELTABLE, "dovetail")))
	require.True(t, isOwnTable(message(unix.NFT_MSG_DELSETELEM, "dovetail")))
	require.False(t, isOwnTable(message(unix.NFT_MSG_NEWRULE, "kube-proxy")))
	require.False(t, isOwnTable(message(unix.NFT_MSG_NEWRULE, "dovetail2")))
	require.False(t, isOwnTable(message(unix.NFT_MSG_NEWGEN, "dovetail")))
}
