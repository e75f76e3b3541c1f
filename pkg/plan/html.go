// SPDX-License-Identifier: Apache-2.0

package plan

import (
	_ "embed"
	"html/template"
	"io"
	"net/netip"

	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/provision"
)

//go:embed report.html.tmpl
var page string

var pageTemplate = template.Must(template.New("plan").Funcs(template.FuncMap{"usd": usd, "picture": pictureOf}).Parse(page))

// HTML writes the report as one page that needs nothing from elsewhere.
func (r Report) HTML(w io.Writer) error { return pageTemplate.Execute(w, r) }

// Sizes of a map in the page, in pixels.
const (
	blockSide    = 9
	blockColumns = 64
)

// picture of a subnet: runs of blocks of the same state in a row of 64, which is a /22.
type picture struct {
	Width, Height int
	Runs          []run
}

type run struct {
	X, Y, Width, Height int
	// Class of its style.
	Class string
	// Title is its first address, the number of blocks and their state.
	First  netip.Prefix
	Blocks int
}

var blockClasses = map[podnetwork.Block]string{
	podnetwork.BlockFree: "free", podnetwork.BlockDelegated: "delegated", podnetwork.BlockTouched: "touched", podnetwork.BlockWithheld: "withheld",
}

func pictureOf(s Subnet) picture {
	cidr, err := netip.ParsePrefix(s.CIDR)
	blocks := blockMap(s.Blocks)
	if err != nil || len(blocks) == 0 {
		return picture{}
	}
	p := picture{Width: min(len(blocks), blockColumns) * blockSide, Height: (len(blocks) + blockColumns - 1) / blockColumns * blockSide}
	for start := 0; start < len(blocks); {
		end := start + 1
		for end < len(blocks) && end%blockColumns != 0 && blocks[end] == blocks[start] {
			end++
		}
		p.Runs = append(p.Runs, run{
			X: start % blockColumns * blockSide, Y: start / blockColumns * blockSide, Width: (end-start)*blockSide - 1, Height: blockSide - 1,
			Class: blockClasses[blocks[start]], Blocks: end - start,
			First: provision.Part(cidr.Masked(), podnetwork.BlockBits, start),
		})
		start = end
	}
	return p
}
