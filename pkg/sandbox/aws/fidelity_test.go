// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var update = flag.Bool("update", false, "write the table of fidelity into README.md")

const (
	fidelityBegin = "<!-- fidelity: written by `make generate` from the code -->\n"
	fidelityEnd   = "<!-- /fidelity -->\n"
)

// remarks say what a call does not do, beyond refusing parameters.
var remarks = map[string]string{
	"AllocateAddress":            "addresses are of 198.51.100.0/24",
	"CreateFleet":                "types other than `instant`; the strategy `diversified`; the depths of spot pools are invented; a dry run looks at no pool, as EC2's",
	"CreateLaunchTemplate":       "image ids by SSM parameter",
	"CreateNatGateway":           "private gateways",
	"CreateVpcPeeringConnection": "peering with another account or Region; rules that name groups of the other VPC",
	"DescribeImages":             "images other than EKS's of Amazon Linux and Bottlerocket (`image.go`)",
	"DescribeInstanceAttribute":  "attributes other than `userData`, `instanceType`, `sourceDestCheck` and `groupSet`",
	"DescribeInstanceStatus":     "failed checks of the system and of volumes",
	"DescribeSpotPriceHistory":   "history: there is the present price of each pool alone, and it is invented",
	"RunInstances":               "markets other than spot",
	"CreateTransitGateway":       "packets through a transit gateway: a VPC's route to one swallows them; attachments other than of VPCs of the account",
	"SearchTransitGatewayRoutes": "prefix lists",
	"CreateSecurityGroup":        "groups outside a VPC",
}

func TestTheTableOfFidelityIsCurrent(t *testing.T) {
	text, err := os.ReadFile("README.md")
	require.NoError(t, err)
	current := between(t, string(text), fidelityBegin, fidelityEnd, fidelityTable(t))
	current = between(t, current, othersBegin, othersEnd, otherServicesTable(t))
	if *update {
		require.NoError(t, os.WriteFile("README.md", []byte(current), 0o644))
		return
	}
	require.Equal(t, current, string(text), "README.md is stale: run make generate")
}

// between replaces what is between two marks.
func between(t *testing.T, text, begin, end, with string) string {
	before, rest, found := strings.Cut(text, begin)
	require.True(t, found)
	_, after, found := strings.Cut(rest, end)
	require.True(t, found)
	return before + begin + with + end + after
}

// fidelityTable has a row for each call.
func fidelityTable(t *testing.T) string {
	source := readSource(t)
	common := source.below("serveEC2")
	maps.Copy(common.codes, source.below("serve").codes) // reading the input
	out := &strings.Builder{}
	fmt.Fprintf(out, "\nEvery call may answer: %s. The filter `tag:` is `tag:KEY`.\n\n", strings.Join(quoted(slices.Sorted(maps.Keys(common.codes))), ", "))
	out.WriteString("| Call | Parameters with an effect | Accepted without effect | Refused | Filters | Errors | Not simulated |\n")
	out.WriteString("| --- | --- | --- | --- | --- | --- | --- |\n")
	actions := ec2Actions()
	for name := range remarks {
		require.Contains(t, actions, name, "a remark on a call that is not there")
	}
	for _, name := range sortedKeys(actions) {
		a := actions[name]
		p := parametersOf(t, a)
		f := source.below(source.handlers[name])
		require.NotEmpty(t, source.handlers[name], name)
		filters := strings.Fields(simulatedFilters[name])
		maps.DeleteFunc(f.codes, func(code string, _ bool) bool { return common.codes[code] })
		fmt.Fprintf(out, "| %s | %s | %s | %s | %s | %s | %s |\n", name, p.honoured, p.inert, p.refused, strings.Join(quoted(filters), ", "),
			strings.Join(quoted(slices.Sorted(maps.Keys(f.codes))), ", "), remarks[name])
	}
	out.WriteString("\nFilters that EC2 has and the simulator refuses:\n\n")
	for _, name := range sortedKeys(otherFilters) {
		fmt.Fprintf(out, "* %s: %s\n", name, strings.Join(quoted(strings.Fields(otherFilters[name])), ", "))
	}
	out.WriteString("\nAccepted without effect, and why:\n\n")
	for _, name := range sortedKeys(inert) {
		fmt.Fprintf(out, "* `%s`: %s\n", name, inert[name])
	}
	out.WriteString("\n")
	return out.String()
}

func quoted(names []string) []string {
	texts := make([]string, len(names))
	for i, name := range names {
		texts[i] = "`" + name + "`"
	}
	return texts
}

// parameterLists are of an action's parameters as they are written in the table.
type parameterLists struct{ honoured, inert, refused string }

// parametersOf sorts the fields of the SDK's input by what the action does with them.
func parametersOf(t *testing.T, a action) parameterLists {
	in, err := a.decode(nil)
	require.NoError(t, err)
	sorted := map[string][]string{}
	sortParameters(a, "", reflect.TypeOf(in).Elem(), sorted)
	return parameterLists{grouped(sorted["honoured"]), grouped(sorted["inert"]), grouped(sorted["refused"])}
}

func sortParameters(a action, above string, structure reflect.Type, sorted map[string][]string) {
	for i := range structure.NumField() {
		f := structure.Field(i)
		if !f.IsExported() || above == "" && (f.Name == "DryRun" || f.Name == "ClientToken") {
			continue
		}
		path := above + (ec2Protocol{}).parameter(structure.Name(), f.Name, isList(f.Type))
		below := f.Type
		for below.Kind() == reflect.Pointer || below.Kind() == reflect.Slice {
			below = below.Elem()
		}
		switch {
		case a.honours(path):
			sorted["honoured"] = append(sorted["honoured"], path)
		case isInert(path):
			sorted["inert"] = append(sorted["inert"], path)
		case below.Kind() == reflect.Struct && slices.ContainsFunc(a.honoured, func(h string) bool { return strings.HasPrefix(h, path+".") }):
			sortParameters(a, path+".", below, sorted)
		default:
			sorted["refused"] = append(sorted["refused"], path)
		}
	}
}

// grouped writes paths of the same parent together: A.{B, C}.
func grouped(paths []string) string {
	below := map[string][]string{}
	var parents, texts []string
	for _, path := range paths {
		parent, name := "", path
		if dot := strings.LastIndexByte(path, '.'); dot >= 0 {
			parent, name = path[:dot], path[dot+1:]
		}
		if below[parent] == nil {
			parents = append(parents, parent)
		}
		below[parent] = append(below[parent], name)
	}
	for _, parent := range parents {
		names := strings.Join(below[parent], ", ")
		switch {
		case parent == "":
			texts = append(texts, names)
		case len(below[parent]) == 1:
			texts = append(texts, parent+"."+names)
		default:
			texts = append(texts, parent+".{"+names+"}")
		}
	}
	return strings.Join(texts, ", ")
}
