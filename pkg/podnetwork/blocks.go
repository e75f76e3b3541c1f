// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"fmt"
	"net/netip"
	"strings"
)

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

// String has a character for each block.
func (m BlockMap) String() string {
	text := make([]byte, len(m))
	for i, block := range m {
		text[i] = byte(block)
	}
	return string(text)
}

// Drawing says how large a map may be.
type Drawing struct {
	// Width and Lines, by default 80 and 32. Where the blocks are more, a cell stands for several.
	Width, Lines int
}

const (
	labelWidth = len("100.100.100.100 ") // each line begins with its first address
	cellGroup  = 16                      // cells between blanks, where there is place for them: a /24 where a cell is a /28
	fewestCols = 8
)

// Map draws the blocks of a subnet, a cell for each or for a power of two of them, and returns the length of a cell's prefix.
func (d Drawing) Map(cidr netip.Prefix, blocks BlockMap) (text string, bits int) {
	width, lines := d.Width, d.Lines
	if width <= 0 {
		width = 80
	}
	if lines <= 0 {
		lines = 32
	}
	columns := fewestCols
	for labelWidth+2*columns <= width {
		columns *= 2
	}
	blanks := labelWidth+columns+columns/cellGroup-1 <= width
	perCell := 1
	for bits = BlockBits; len(blocks) > perCell*columns*lines; bits-- {
		perCell *= 2
	}
	var out strings.Builder
	first := number(cidr.Masked().Addr())
	for start := 0; start < len(blocks); start += columns * perCell {
		address := first + uint32(start)*blockSize //nolint:gosec // within the subnet
		fmt.Fprintf(&out, "%-*s", labelWidth, netip.AddrFrom4([4]byte{byte(address >> 24), byte(address >> 16), byte(address >> 8), byte(address)}))
		for column := 0; column < columns && start+column*perCell < len(blocks); column++ {
			if blanks && column > 0 && column%cellGroup == 0 {
				out.WriteByte(' ')
			}
			from := start + column*perCell
			out.WriteByte(cell(blocks[from:min(from+perCell, len(blocks))]))
		}
		out.WriteByte('\n')
	}
	return out.String(), bits
}

// cell of blocks: their state where it is the same, else how many tenths of them are free, else what most of them are.
func cell(blocks BlockMap) byte {
	counts := map[Block]int{}
	for _, block := range blocks {
		counts[block]++
	}
	if free := counts[BlockFree]; free > 0 && free < len(blocks) {
		return '0' + byte(max(10*free/len(blocks), 1)) //nolint:gosec // 1 to 9
	}
	most := blocks[0]
	for _, block := range []Block{BlockDelegated, BlockTouched, BlockWithheld} {
		if counts[block] > counts[most] {
			most = block
		}
	}
	return byte(most)
}

// Legend of maps.
const Legend = string(BlockFree) + `  free
` + string(BlockDelegated) + `  delegated to an ENI
` + string(BlockTouched) + `  holds single addresses, or AWS's own
` + string(BlockWithheld) + `  not for automatic prefixes: reserved, or outside of the reservation for them
1 to 9, where a cell is larger than a /28: so many tenths of it are free
`
