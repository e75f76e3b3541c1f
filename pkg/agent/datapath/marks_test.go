// SPDX-License-Identifier: Apache-2.0

package datapath_test

import (
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
)

// Somebody else sets all bits but ours, of packets and connections, and drops what does not have them afterwards.
func TestBitsOfOthersSurviveInMarks(t *testing.T) {
	state := node(t)
	_, err := datapath.Apply(state)
	require.NoError(t, err)
	others := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "others"}
	t.Cleanup(func() { nft(t, func(c *nftables.Conn) { c.DelTable(others) }) })
	fromPod := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: append([]byte("dvtpod"), make([]byte, 10)...)},
	}
	drop := &expr.Verdict{Kind: expr.VerdictDrop}
	all := binaryutil.NativeEndian.PutUint32(0xffffffff)
	nft(t, func(c *nftables.Conn) {
		c.AddTable(others)
		chain := func(name string, priority nftables.ChainPriority) func(...expr.Any) {
			added := c.AddChain(&nftables.Chain{
				Table: others, Name: name, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityRef(priority),
			})
			return func(exprs ...expr.Any) {
				c.AddRule(&nftables.Rule{Table: others, Chain: added, Exprs: append(fromPod[:2:2], exprs...)})
			}
		}
		before, after := chain("before", -160), chain("after", -80)
		before(
			&expr.Immediate{Register: 1, Data: binaryutil.NativeEndian.PutUint32(^uint32(datapath.Mark))},
			&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: 1},
			&expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: 1},
		)
		after(&expr.Meta{Key: expr.MetaKeyMARK, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: all}, drop)
		after(&expr.Ct{Key: expr.CtKeyMARK, Register: 1}, &expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: all}, drop)
	})
	seen, err := seenBy(t, routerNS, outside+":80", podNS)
	require.NoError(t, err)
	require.Equal(t, "10.0.0.10", seen)
}
