// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// ids makes resource ids: reserved ones first, then seventeen random hex digits as EC2's.
type ids struct {
	random   *rand.Rand
	reserved map[string][]string // prefix to ids, next first
}

// next returns an id for a resource that a caller creates.
func (g *ids) next(prefix string) string {
	if queue := g.reserved[prefix]; len(queue) > 0 {
		g.reserved[prefix] = queue[1:]
		return queue[0]
	}
	return g.implicit(prefix)
}

// implicit returns an id for a resource that comes with another one, such as a VPC's default security group. These never
// use up reserved ids.
func (g *ids) implicit(prefix string) string {
	return fmt.Sprintf("%s-0%016x", prefix, g.random.Uint64())
}

// idPrefix is the part before the last dash: "eni" and "eni-attach" are two kinds.
func idPrefix(id string) string {
	if i := strings.LastIndexByte(id, '-'); i > 0 {
		return id[:i]
	}
	return ""
}

// wellFormed tells whether id is prefix, a dash, and 8 or 17 hex digits.
func wellFormed(prefix, id string) bool {
	digits, ok := strings.CutPrefix(id, prefix+"-")
	if !ok || len(digits) != 8 && len(digits) != 17 {
		return false
	}
	return strings.Trim(digits, "0123456789abcdef") == ""
}

// uuid returns a request id or a token.
func uuid(r *rand.Rand) string {
	a, b := r.Uint64(), r.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-%04x-%012x", uint32(a>>32), uint16(a>>16), uint16(a)&0xfff, 0x8000|uint16(b>>48)&0x3fff, b&0xffffffffffff)
}
