// SPDX-License-Identifier: Apache-2.0

// Package instancetypes is a table of the figures of EC2's instance types, embedded, so that capacity can be
// computed and launches simulated without an account.
//
// The table is a gzipped file of tab-separated values, one line a type, made by hack/instancetypes; its first lines
// say where the figures come from and of which date they are.
package instancetypes

import (
	"bytes"
	"compress/gzip"
	_ "embed"
	"fmt"
	"slices"
	"sync"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

//go:embed table.tsv.gz
var embedded []byte

// load reads the embedded table once, on first use. The table is part of the binary, so a failure is a broken build.
var load = sync.OnceValue(func() *Table {
	plain, err := gzip.NewReader(bytes.NewReader(embedded))
	if err != nil {
		panic(fmt.Sprintf("embedded instance types: %v", err))
	}
	t, err := Read(plain)
	if err != nil {
		panic(fmt.Sprintf("embedded instance types: %v", err))
	}
	return t
})

// Info returns what DescribeInstanceTypes answers for a type. The caller owns the result.
func Info(name string) (ec2types.InstanceTypeInfo, bool) { return load().Info(name) }

// Names returns all types, sorted.
func Names() []string { return slices.Clone(load().names) }

// Price returns the on-demand price in us-east-1: USD per hour, Linux, shared tenancy. Types that are not sold on
// demand have none.
func Price(name string) (float64, bool) { return load().Price(name) }

// ZoneLetters returns the letters of the us-east-1 zones that offer the type, for example "abcd"; empty when
// none does.
func ZoneLetters(name string) string { return load().rows[name].zones }

// Origin returns the lines of attribution and date that stand above the figures.
func Origin() []string { return load().Origin() }
