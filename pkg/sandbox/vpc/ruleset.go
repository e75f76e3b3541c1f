// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"bytes"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
)

// ruleset is a table of nftables as it should be.
type ruleset struct {
	sets   []*set
	chains []*chain
}

// set of keys, or map from keys to data.
type set struct {
	name      string
	key, data nftables.SetDatatype // data is zero for a set
	elements  map[string]nftables.SetElement
}

// chain of rules. One with a hook sees the packets there, and drops what no rule accepts when strict.
type chain struct {
	name   string
	hook   *hook
	strict bool
	rules  [][]expr.Any
}

type hook struct {
	kind     nftables.ChainType
	at       *nftables.ChainHook
	priority *nftables.ChainPriority
}

func (r *ruleset) set(name string, key nftables.SetDatatype) *set {
	s := &set{name: name, key: key, elements: map[string]nftables.SetElement{}}
	r.sets = append(r.sets, s)
	return s
}

func (r *ruleset) mapping(name string, key, data nftables.SetDatatype) *set {
	s := r.set(name, key)
	s.data = data
	return s
}

func (r *ruleset) chain(name string) *chain {
	c := &chain{name: name}
	r.chains = append(r.chains, c)
	return c
}

func (c *chain) rule(parts ...[]expr.Any) { c.rules = append(c.rules, slices.Concat(parts...)) }

func (s *set) add(key []byte) { s.elements[string(key)] = nftables.SetElement{Key: key} }

func (s *set) value(key, value []byte) {
	s.elements[string(key)] = nftables.SetElement{Key: key, Val: value}
}

func (s *set) verdict(key []byte, v *expr.Verdict) {
	s.elements[string(key)] = nftables.SetElement{Key: key, VerdictData: v}
}

// shape is all of a ruleset but the elements that can be changed one by one.
func (r *ruleset) shape() string {
	var text strings.Builder
	for _, s := range r.sets {
		fmt.Fprintln(&text, s.name, s.key.Name, s.data.Name)
	}
	for _, c := range r.chains {
		fmt.Fprintln(&text, c.name, c.hook != nil, c.strict)
		for _, rule := range c.rules {
			for _, e := range rule {
				fmt.Fprintf(&text, "%T%+v ", e, e)
			}
			fmt.Fprintln(&text)
		}
	}
	return text.String()
}

// firewall is the table of a network namespace, and what is known to be in it.
type firewall struct {
	netns int
	shape string
	sets  map[string]map[string]nftables.SetElement
}

// apply makes the table what it should be, in one transaction: new when its shape changes, else by the elements that differ.
// Tracked connections are not touched.
func (f *firewall) apply(want *ruleset) error {
	shape := want.shape()
	conn, err := nftables.New(nftables.WithNetNSFd(f.netns), nftables.WithSockOptions(largeBuffers))
	if err != nil {
		return err
	}
	table := &nftables.Table{Family: nftables.TableFamilyIPv4, Name: "vpc"}
	if shape != f.shape {
		err = want.create(conn, table)
	} else {
		err = want.update(conn, table, f.sets)
	}
	if err != nil {
		return err
	}
	if err := conn.Flush(); err != nil {
		f.shape = "" // what is there is not known
		return fmt.Errorf("nftables: %w", err)
	}
	f.shape, f.sets = shape, map[string]map[string]nftables.SetElement{}
	for _, s := range want.sets {
		f.sets[s.name] = s.elements
	}
	return nil
}

// largeBuffers let a table with the elements of hundreds of ENIs pass as one transaction.
func largeBuffers(conn *netlink.Conn) error {
	const size = 8 << 20
	if err := conn.SetWriteBuffer(size); err != nil {
		return err
	}
	return conn.SetReadBuffer(size)
}

// create replaces the table.
func (r *ruleset) create(conn *nftables.Conn, table *nftables.Table) error {
	conn.AddTable(table) // so that the next line finds one the first time
	conn.DelTable(table)
	conn.AddTable(table)
	for _, s := range r.sets {
		if err := conn.AddSet(s.declare(table), nil); err != nil {
			return fmt.Errorf("nftables set %s: %w", s.name, err)
		}
	}
	for _, c := range r.chains {
		conn.AddChain(c.declare(table))
	}
	for _, c := range r.chains {
		for _, rule := range c.rules {
			conn.AddRule(&nftables.Rule{Table: table, Chain: &nftables.Chain{Name: c.name, Table: table}, Exprs: rule})
		}
	}
	return r.update(conn, table, nil)
}

// update adds and removes elements.
func (r *ruleset) update(conn *nftables.Conn, table *nftables.Table, present map[string]map[string]nftables.SetElement) error {
	for _, s := range r.sets {
		var gone, added []nftables.SetElement
		for key, element := range present[s.name] {
			if wanted, ok := s.elements[key]; !ok || !same(element, wanted) {
				gone = append(gone, element)
			}
		}
		for key, element := range s.elements {
			if there, ok := present[s.name][key]; !ok || !same(element, there) {
				added = append(added, element)
			}
		}
		declared := s.declare(table)
		if err := inChunks(gone, func(chunk []nftables.SetElement) error { return conn.SetDeleteElements(declared, chunk) }); err != nil {
			return fmt.Errorf("nftables set %s: %w", s.name, err)
		}
		if err := inChunks(added, func(chunk []nftables.SetElement) error { return conn.SetAddElements(declared, chunk) }); err != nil {
			return fmt.Errorf("nftables set %s: %w", s.name, err)
		}
	}
	return nil
}

func same(a, b nftables.SetElement) bool {
	return bytes.Equal(a.Key, b.Key) && bytes.Equal(a.Val, b.Val) && reflect.DeepEqual(a.VerdictData, b.VerdictData)
}

// inChunks that fit into a netlink attribute of 64 KiB.
func inChunks(elements []nftables.SetElement, do func([]nftables.SetElement) error) error {
	for chunk := range slices.Chunk(elements, 500) {
		if err := do(chunk); err != nil {
			return err
		}
	}
	return nil
}

func (s *set) declare(table *nftables.Table) *nftables.Set {
	return &nftables.Set{
		Table: table, Name: s.name, KeyType: s.key, DataType: s.data, IsMap: s.data.Name != "",
		Concatenation: strings.Contains(s.key.Name, " . "),
	}
}

func (c *chain) declare(table *nftables.Table) *nftables.Chain {
	declared := &nftables.Chain{Name: c.name, Table: table}
	if c.hook != nil {
		declared.Type, declared.Hooknum, declared.Priority = c.hook.kind, c.hook.at, c.hook.priority
		policy := nftables.ChainPolicyAccept
		if c.strict {
			policy = nftables.ChainPolicyDrop
		}
		declared.Policy = &policy
	}
	return declared
}
