// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Parts of nftables rules. A part loads registers from the first on, or tests what is there.

const (
	register = 8 // NFT_REG32_00: registers of four bytes, the first of sixteen

	sourceOffset, destinationOffset = 12, 16 // in the IPv4 header
)

var accept = verdict(expr.VerdictAccept, "")

func verdict(kind expr.VerdictKind, chain string) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: kind, Chain: chain}}
}

// loadMeta into the nth register of four bytes.
func loadMeta(key expr.MetaKey, nth uint32) []expr.Any {
	return []expr.Any{&expr.Meta{Key: key, Register: register + nth}}
}

func loadAddress(offset, nth uint32) []expr.Any {
	return []expr.Any{&expr.Payload{DestRegister: register + nth, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: 4}}
}

// cut an address in the nth register to its first bits.
func cut(bits int, nth uint32) []expr.Any {
	mask := binaryutil.BigEndian.PutUint32(^uint32(0) << (32 - bits))
	return []expr.Any{&expr.Bitwise{SourceRegister: register + nth, DestRegister: register + nth, Len: 4, Mask: mask, Xor: make([]byte, 4)}}
}

func is(data []byte) []expr.Any {
	return []expr.Any{&expr.Cmp{Op: expr.CmpOpEq, Register: register, Data: data}}
}

func in(s *set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register, SetName: s.name}}
}

func notIn(s *set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register, SetName: s.name, Invert: true}}
}

// lookUp what a map has for what is loaded, in its place.
func lookUp(s *set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register, DestRegister: register, SetName: s.name, IsDestRegSet: true}}
}

// dispatch to the verdict that a map has for what is loaded.
func dispatch(s *set) []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: register, SetName: s.name, IsDestRegSet: true}}
}

// within tests an address of the header; a prefix of all addresses needs no test.
func within(p netip.Prefix, offset uint32) []expr.Any {
	if p.Bits() == 0 {
		return nil
	}
	exprs := loadAddress(offset, 0)
	if p.Bits() < 32 {
		exprs = append(exprs, cut(p.Bits(), 0)...)
	}
	return append(exprs, is(p.Masked().Addr().AsSlice())...)
}

func ifname(link string) []byte {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, link)
	return name
}

// connection is in one of the states of connection tracking.
func connection(states uint32) []expr.Any {
	return []expr.Any{
		&expr.Ct{Key: expr.CtKeySTATE, Register: register},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 4, Mask: binaryutil.NativeEndian.PutUint32(states), Xor: make([]byte, 4)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, 4)},
	}
}
