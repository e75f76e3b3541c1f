// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"go/ast"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	othersBegin = "<!-- other services: written by `make generate` from the code -->\n"
	othersEnd   = "<!-- /other services -->\n"
)

// serviceNames of the keys of operations.
var serviceNames = map[string]string{
	"AmazonSSM": "SSM", "AWSPriceListService": "Pricing", "AmazonSQS": "SQS", "iam": "IAM", "sts": "STS", "ServiceQuotasV20190624": "Service Quotas",
}

// serviceRemarks say what a call of another service does not do.
var serviceRemarks = map[string]string{
	"SSM GetParameter":               "parameters other than the images' of EKS and Bottlerocket, `recommended` or `latest` and dated",
	"Pricing GetProducts":            "products other than on-demand Linux instances",
	"Service Quotas GetServiceQuota": "quotas other than those of ENIs in a Region and of a VPC's IPv4 CIDR blocks",
	"SQS CreateQueue":                "attributes, and queues other than standard ones",
	"SQS ReceiveMessage":             "attributes of messages but `SentTimestamp`",
	"IAM CreateRole":                 "who may assume it",
	"IAM PutRolePolicy":              "NotAction, NotResource, and conditions on numbers, dates and addresses",
	"STS GetCallerIdentity":          "users: there is one",
}

// otherServicesTable has a row for each call: its parameters are the members of the handler's input, others are refused.
func otherServicesTable(t *testing.T) string {
	s := readSource(t)
	rows := []string{
		"| EKS DescribeCluster | name | `InvalidRequestException`, `ResourceNotFoundException` | clusters other than those that `SetCluster` set |",
		"| EKS ListFargateProfiles | name, maxResults, nextToken | `InvalidParameterException`, `InvalidRequestException`, `ResourceNotFoundException` |  |",
		"| EKS CreateFargateProfile | name, fargateProfileName, podExecutionRoleArn, subnets, selectors, tags | `InvalidParameterException`, `InvalidRequestException`, `ResourceInUseException`, `ResourceLimitExceededException`, `ResourceNotFoundException` | pods on Fargate |",
		"| EKS DescribeFargateProfile | name, fargateProfileName | `ResourceNotFoundException` |  |",
		"| EKS DeleteFargateProfile | name, fargateProfileName | `InvalidRequestException`, `ResourceNotFoundException` |  |",
		"| IMDSv2 | tokens, `meta-data` (instance, placement, interfaces, role credentials, spot and rebalance notices), `dynamic/instance-identity/document`, `user-data` | HTTP statuses | throttling |",
	}
	for _, list := range []string{"jsonOperations", "serveIdentity"} {
		ast.Inspect(s.bodies[s.byName[list]], func(n ast.Node) bool {
			entry, ok := n.(*ast.KeyValueExpr)
			if !ok || text(entry.Key) == "" {
				return true
			}
			call, ok := entry.Value.(*ast.CallExpr)
			if !ok {
				return true
			}
			argument := call.Args[0]
			if made, ok := argument.(*ast.CallExpr); ok { // by a function that returns the handler
				argument = made.Fun
			}
			selected, ok := argument.(*ast.SelectorExpr)
			require.True(t, ok, text(entry.Key))
			handler := selected.Sel.Name
			key := strings.NewReplacer(".", " ", "/", " ").Replace(text(entry.Key))
			service, action, _ := strings.Cut(key, " ")
			name := serviceNames[service] + " " + action
			f := s.below(handler)
			var codes []string
			for _, code := range slices.Sorted(maps.Keys(f.codes)) {
				codes = append(codes, code[strings.LastIndexByte(code, '#')+1:])
			}
			rows = append(rows, fmt.Sprintf("| %s | %s | %s | %s |", name, strings.Join(s.inputOf(t, handler), ", "), strings.Join(quoted(codes), ", "), serviceRemarks[name]))
			return true
		})
	}
	slices.Sort(rows)
	return "\nA parameter that is not named is refused. Every call may answer that the sandbox does not simulate it, or a parameter of it: `InvalidAction` and\n" +
		"`UnknownParameter` in the Query protocol, `UnknownOperationException` and `SerializationException` in JSON.\n\n" +
		"| Call | Parameters | Errors | Not simulated |\n| --- | --- | --- | --- |\n" + strings.Join(rows, "\n") + "\n\n"
}

// inputOf returns the parameters in the last argument of a handler.
func (s *source) inputOf(t *testing.T, handler string) []string {
	f, ok := s.bodies[s.byName[handler]].(*ast.FuncDecl)
	require.True(t, ok, handler)
	signature := f.Type
	if returned, ok := f.Type.Results.List[0].Type.(*ast.FuncType); ok {
		signature = returned
	}
	arguments := signature.Params.List
	expression := arguments[len(arguments)-1].Type
	if pointer, ok := expression.(*ast.StarExpr); ok {
		expression = pointer.X
	}
	if name, ok := expression.(*ast.Ident); ok {
		expression = s.structures[name.Name]
	}
	structure, ok := expression.(*ast.StructType)
	require.True(t, ok, handler)
	var names []string
	for _, field := range structure.Fields.List {
		for _, name := range field.Names {
			spelled := name.Name
			if field.Tag != nil {
				tag, _, _ := strings.Cut(reflect.StructTag(strings.Trim(field.Tag.Value, "`")).Get("json"), ",")
				if tag != "" {
					spelled = tag
				}
			}
			names = append(names, spelled)
		}
	}
	slices.Sort(names)
	return names
}
