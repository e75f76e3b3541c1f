// SPDX-License-Identifier: Apache-2.0

package podnetwork

import "strings"

// Block is the state of one aligned /28 of a subnet. Its value is how a map shows it.
type Block byte

// States of a block.
const (
	// BlockFree can be delegated.
	BlockFree Block = '.'
	// BlockDelegated is a prefix of an ENI.
	BlockDelegated Block = '#'
	// BlockTouched holds a single address that is in use, or one that AWS keeps: it cannot be delegated until that goes.
	BlockTouched Block = '+'
	// BlockWithheld is untouched and not for automatic prefixes: it is in an explicit reservation, or outside of the prefix
	// reservations of a subnet that has them.
	BlockWithheld Block = '-'
)

// BlockMap shows a subnet's /28 blocks in the order of their addresses: 4,096 bytes for a /16.
type BlockMap []Block

// blocksPerLine make a line of a map a /22.
const blocksPerLine = 64

// String has a line for each /22.
func (m BlockMap) String() string {
	var out strings.Builder
	for i, block := range m {
		if i > 0 && i%blocksPerLine == 0 {
			out.WriteByte('\n')
		}
		out.WriteByte(byte(block))
	}
	return out.String()
}
