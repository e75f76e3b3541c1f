// SPDX-License-Identifier: Apache-2.0

package iam_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"slices"
	"strings"
	"testing"
	"text/template"

	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclparse"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/stretchr/testify/require"
	"github.com/zclconf/go-cty/cty"
	"sigs.k8s.io/yaml"

	"github.com/dovetail-dev/dovetail/iam"
)

var update = flag.Bool("update", false, "write cloudformation.yaml")

const (
	ours      = "github.com/dovetail-dev/dovetail/"
	karpenter = "github.com/aws/karpenter-provider-aws/pkg/"
)

// feature is a policy and the packages whose calls it is for. A feature that is added to the controller's policy need not repeat it.
type feature struct {
	policy   string
	packages []string
	// implied are actions that no code calls by their name: EC2 and IAM ask for them when others are called.
	implied []string
}

var controller = []feature{
	{iam.Controller, []string{
		karpenter + "batcher", karpenter + "controllers/nodeclass", karpenter + "operator", karpenter + "providers/amifamily",
		karpenter + "providers/capacityreservation", karpenter + "providers/instance", karpenter + "providers/instancestatus",
		karpenter + "providers/instancetype", karpenter + "providers/launchtemplate", karpenter + "providers/placementgroup",
		karpenter + "providers/pricing", karpenter + "providers/securitygroup", karpenter + "providers/ssm", karpenter + "providers/subnet",
		karpenter + "providers/version",
		ours + "pkg/launch", ours + "pkg/ec2read", ours + "pkg/controllers/enigarbage", ours + "pkg/controllers/securitygroups",
	}, []string{"iam:PassRole"}},
	{iam.InstanceProfiles, []string{karpenter + "providers/instanceprofile"}, []string{"iam:TagInstanceProfile"}},
	{iam.Interruption, []string{karpenter + "providers/sqs"}, nil},
	{iam.ZonalShift, []string{karpenter + "providers/arczonalshift", karpenter + "operator"}, nil},
	{iam.Provision, []string{ours + "pkg/controllers/provisioning"}, []string{"ec2:CreateTags"}},
	{iam.NodeMigration, []string{ours + "pkg/controllers/nodemigration"}, nil},
}

// notCalled are what is linked into the controller and never called there.
var notCalled = map[string]string{
	ours + "pkg/agent/eni": "the controller takes its names of tags and its reading of EC2's errors",
	"sqs:SendMessage":      "upstream's tests send",
}

func TestTheControllersPoliciesAllowWhatItCallsAndNothingElse(t *testing.T) {
	called := calls(t, ours+"cmd/controller")
	base := actions(t, iam.Controller)
	claimed := map[string]bool{}
	for _, f := range controller {
		var needed []string
		for _, p := range f.packages {
			require.NotEmpty(t, called[p], "the policy %s is for %s, which calls nothing", f.policy, p)
			claimed[p] = true
			for _, action := range called[p] {
				// The operator of upstream asks for the zonal shift itself, when that feature is on.
				if zonal := strings.HasPrefix(action, "arc-zonal-shift:"); notCalled[action] != "" || zonal != (f.policy == iam.ZonalShift) {
					continue
				}
				if f.policy == iam.Controller || !slices.Contains(base, action) || slices.Contains(actions(t, f.policy), action) {
					needed = append(needed, action)
				}
			}
		}
		requireSame(t, f.policy, append(needed, f.implied...))
	}
	for p, a := range called {
		require.True(t, claimed[p] || len(a) == 0 || notCalled[p] != "", "%s calls %v, and no policy is for it", p, a)
	}
}

func TestTheNodesPolicyAllowsWhatTheAgentCallsAndNothingElse(t *testing.T) {
	needed := []string{"ec2:CreateTags"} // CreateNetworkInterface with tags
	for _, a := range calls(t, ours+"cmd/agent") {
		needed = append(needed, a...)
	}
	requireSame(t, iam.NodeDynamic, needed)
}

func requireSame(t *testing.T, policy string, needed []string) {
	t.Helper()
	slices.Sort(needed)
	needed = slices.Compact(needed)
	allowed := actions(t, policy)
	require.Empty(t, without(needed, allowed), "%s lacks what is called", policy)
	require.Empty(t, without(allowed, needed), "%s allows what is not called", policy)
}

func without(list, other []string) []string {
	return slices.DeleteFunc(slices.Clone(list), func(s string) bool { return slices.Contains(other, s) })
}

func actions(t *testing.T, policy string) []string {
	t.Helper()
	document, err := iam.Document(policy, names)
	require.NoError(t, err)
	var parsed struct {
		Version   string
		Statement []struct {
			Sid, Effect string
			Action      []string
			Resource    []string
			Condition   map[string]map[string]any
		}
	}
	decoder := json.NewDecoder(strings.NewReader(document))
	decoder.DisallowUnknownFields()
	require.NoError(t, decoder.Decode(&parsed), policy)
	require.Equal(t, "2012-10-17", parsed.Version)
	var found []string
	for _, s := range parsed.Statement {
		require.Equal(t, "Allow", s.Effect)
		require.NotEmpty(t, s.Resource, s.Sid)
		for _, action := range s.Action {
			require.NotContains(t, action, "*", "%s names its actions", s.Sid)
			found = append(found, action)
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

var names = iam.Names{
	Partition: "aws", Region: "us-east-1", AccountID: "123456789012", ClusterName: strings.Repeat("c", 100), // EKS's longest name
	NodeRoleARN: "arn:aws:iam::123456789012:role/" + strings.Repeat("r", 64), InterruptionQueue: strings.Repeat("q", 80),
}

// Managed policies hold 6,144 characters besides white space (IAM's quotas).
func TestEachPolicyFitsIntoAManagedPolicy(t *testing.T) {
	for _, policy := range iam.All() {
		document, err := iam.Document(policy, names)
		require.NoError(t, err)
		var compact bytes.Buffer
		require.NoError(t, json.Compact(&compact, []byte(document)))
		require.Less(t, compact.Len(), 6144, policy)
		require.NotContains(t, document, "${")
	}
}

func TestADocumentNeedsItsNames(t *testing.T) {
	_, err := iam.Document(iam.Interruption, iam.Names{Partition: "aws", Region: "us-east-1", AccountID: "1"})
	require.EqualError(t, err, "the policy controller-interruption needs a value for InterruptionQueue")
	_, err = iam.Document("nodes", names)
	require.ErrorContains(t, err, `no policy is called "nodes": there are [controller `)
}

func TestTheCloudFormationTemplateIsCurrent(t *testing.T) {
	pseudo := strings.NewReplacer("${Partition}", "${AWS::Partition}", "${Region}", "${AWS::Region}", "${AccountId}", "${AWS::AccountId}", "${NodeRoleArn}", "${NodeRole.Arn}")
	written := map[string]bool{}
	parsed, err := template.New("cloudformation.yaml.tmpl").Funcs(template.FuncMap{"policy": func(name string) (string, error) {
		text, err := os.ReadFile("policies/" + name + ".json")
		written[name] = true
		lines := strings.Split(strings.TrimSpace(pseudo.Replace(string(text))), "\n")
		return "        " + strings.Join(lines, "\n        "), err
	}}).ParseFiles("cloudformation.yaml.tmpl")
	require.NoError(t, err)
	var current bytes.Buffer
	require.NoError(t, parsed.Execute(&current, nil))
	require.Len(t, written, len(iam.All()), "the template lacks a policy")
	if *update {
		require.NoError(t, os.WriteFile("cloudformation.yaml", current.Bytes(), 0o644))
	}
	text, err := os.ReadFile("cloudformation.yaml")
	require.NoError(t, err)
	require.Equal(t, current.String(), string(text), "run make generate")
	require.NoError(t, yaml.Unmarshal(text, &map[string]any{}))
}

// templatefile of Terraform is HCL's template language, with the variables that main.tf gives it.
func TestTheTerraformModuleFillsInEveryPolicy(t *testing.T) {
	parser := hclparse.NewParser()
	files, err := os.ReadDir("terraform")
	require.NoError(t, err)
	for _, f := range files {
		_, problems := parser.ParseHCLFile("terraform/" + f.Name())
		require.False(t, problems.HasErrors(), problems.Error())
	}
	main := parser.Files()["terraform/main.tf"]
	given := map[string]cty.Value{}
	for _, block := range main.Body.(*hclsyntax.Body).Blocks {
		if block.Type != "locals" {
			continue
		}
		pairs, problems := hcl.ExprMap(block.Body.Attributes["names"].Expr)
		require.False(t, problems.HasErrors(), problems.Error())
		for _, pair := range pairs {
			given[hcl.ExprAsKeyword(pair.Key)] = cty.StringVal("x")
		}
	}
	require.NotEmpty(t, given)
	for _, policy := range iam.All() {
		path := "policies/" + policy + ".json"
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		parsed, problems := hclsyntax.ParseTemplate(text, path, hcl.InitialPos)
		require.False(t, problems.HasErrors(), problems.Error())
		filled, problems := parsed.Value(&hcl.EvalContext{Variables: given})
		require.False(t, problems.HasErrors(), problems.Error())
		require.True(t, json.Valid([]byte(filled.AsString())), policy)
		require.True(t, bytes.Contains(main.Bytes, []byte(`"`+policy+`"`)) || bytes.Contains(main.Bytes, []byte("/"+policy+".json")), "main.tf uses %s nowhere", policy)
	}
}
