// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	ekstypes "github.com/aws/aws-sdk-go-v2/service/eks/types"
	"github.com/aws/smithy-go/middleware"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/iam"
	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/plan"
	"github.com/dovetail-dev/dovetail/pkg/plan/survey"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// rich is a cluster of which there is something to read by every call: a pod subnet and an ENIConfig of its PodNetwork, a transit gateway
// that another VPC with the pods' range is attached to, and a Fargate profile.
func (e *exhausted) rich(c client.Client) {
	e.cluster(c, false)
	ctx := e.Context()
	_, err := e.api.AssociateVpcCidrBlock(ctx, &ec2.AssociateVpcCidrBlockInput{VpcId: e.vpc, CidrBlock: awssdk.String("100.64.0.0/16")})
	require.NoError(e, err)
	var pods *ec2.CreateSubnetOutput
	require.Eventually(e, func() bool {
		pods, err = e.api.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: e.vpc, AvailabilityZone: &planZones[0], CidrBlock: awssdk.String("100.64.0.0/19"), TagSpecifications: []ec2types.TagSpecification{{
			ResourceType: ec2types.ResourceTypeSubnet, Tags: []ec2types.Tag{
				{Key: awssdk.String(v1alpha1.TagPodNetwork), Value: awssdk.String("default")}, {Key: awssdk.String(v1alpha1.TagCluster), Value: awssdk.String("test")},
			},
		}}})
		return err == nil
	}, time.Minute, 100*time.Millisecond, "the block associates")
	group, err := e.api.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{VpcId: e.vpc, GroupName: awssdk.String("pods"), Description: awssdk.String("pods")})
	require.NoError(e, err)
	require.NoError(e, c.Create(ctx, &eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: planZones[0]}, Spec: eniconfig.ENIConfigSpec{Subnet: *pods.Subnet.SubnetId, SecurityGroups: []string{*group.GroupId}}}))
	require.NoError(e, c.Create(ctx, &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: v1alpha1.PodNetworkSpec{Provision: &v1alpha1.Provision{CIDRs: []string{"100.64.0.0/16"}, SubnetPrefixLength: 19}}}))
	e.transitGateway("100.64.0.0/17")
	_, err = eks.New(eks.Options{Region: "us-east-1", BaseEndpoint: e.api.Options().BaseEndpoint, Credentials: e.api.Options().Credentials}).CreateFargateProfile(ctx, &eks.CreateFargateProfileInput{
		ClusterName: awssdk.String("test"), FargateProfileName: awssdk.String("batch"), PodExecutionRoleArn: awssdk.String("arn:aws:iam::123456789012:role/fargate"), Subnets: e.nodes,
		Selectors: []ekstypes.FargateProfileSelector{{Namespace: awssdk.String("def*")}},
	})
	require.NoError(e, err)
}

// transitGateway that the VPC is attached to, and another with a block.
func (e *exhausted) transitGateway(block string) {
	ctx := e.Context()
	gateway, err := e.api.CreateTransitGateway(ctx, &ec2.CreateTransitGatewayInput{})
	require.NoError(e, err)
	vpc, err := e.api.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: &block})
	require.NoError(e, err)
	cidr, _, _ := strings.Cut(block, "/")
	other, err := e.api.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc.Vpc.VpcId, AvailabilityZone: &planZones[0], CidrBlock: awssdk.String(cidr + "/24")})
	require.NoError(e, err)
	for vpc, subnet := range map[string]string{*vpc.Vpc.VpcId: *other.Subnet.SubnetId, *e.vpc: e.nodes[0]} {
		require.Eventually(e, func() bool {
			_, err := e.api.CreateTransitGatewayVpcAttachment(ctx, &ec2.CreateTransitGatewayVpcAttachmentInput{TransitGatewayId: gateway.TransitGateway.TransitGatewayId, VpcId: &vpc, SubnetIds: []string{subnet}})
			return err == nil
		}, time.Minute, 50*time.Millisecond, "the transit gateway is available")
	}
	require.Eventually(e, func() bool {
		out, err := e.api.DescribeTransitGatewayAttachments(ctx, &ec2.DescribeTransitGatewayAttachmentsInput{Filters: []ec2types.Filter{{Name: awssdk.String("state"), Values: []string{"available"}}}})
		return err == nil && len(out.TransitGatewayAttachments) == 2
	}, time.Minute, 50*time.Millisecond)
}

// actions of AWS that a survey takes.
type actions struct {
	mu    sync.Mutex
	taken map[string]bool
}

func (a *actions) config(ctx context.Context, region string) (awssdk.Config, error) {
	cfg, err := cli.AWS(ctx, region)
	cfg.APIOptions = append(cfg.APIOptions, func(stack *middleware.Stack) error {
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc("record", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			a.mu.Lock()
			a.taken[strings.ToLower(strings.ReplaceAll(awsmiddleware.GetServiceID(ctx), " ", ""))+":"+awsmiddleware.GetOperationName(ctx)] = true
			a.mu.Unlock()
			return next.HandleInitialize(ctx, in)
		}), middleware.After)
	})
	return cfg, err
}

func surveyed(t *testing.T, c client.Client, load func(context.Context, string) (awssdk.Config, error)) plan.Report {
	t.Helper()
	facts, err := survey.Read(t.Context(), survey.Params{Cluster: c, AWS: load, InstanceTypes: embeddedTypes})
	require.NoError(t, err)
	report := plan.Make(facts)
	report.Print(io.Discard, podnetwork.Drawing{})
	return report
}

func policyOfPlan(t *testing.T) []string {
	t.Helper()
	text, err := iam.Document(iam.Plan, iam.Names{})
	require.NoError(t, err)
	var policy struct{ Statement []struct{ Action []string } }
	require.NoError(t, json.Unmarshal([]byte(text), &policy))
	return policy.Statement[0].Action
}

func denied(report plan.Report) string {
	found, _ := lo.Find(report.Findings, func(f plan.Finding) bool { return f.Reason == plan.ReasonPermissionMissing })
	return found.What
}

func TestAPlanEndsWithWhatItMayRead(t *testing.T) {
	e := newExhausted(t)
	config := chartstest.StartAPIServer(t)
	apis.Register(scheme.Scheme)
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	e.rich(c)
	all := &actions{taken: map[string]bool{}}
	report := surveyed(t, c, all.config)
	require.Empty(t, report.Unread)
	require.Empty(t, denied(report))
	require.Subset(t, reasons(report, plan.Warning), []string{plan.ReasonCIDROverlapsTransit, plan.ReasonFargateTakes})
	require.ElementsMatch(t, policyOfPlan(t), lo.Keys(all.taken), "iam/policies/plan.json allows what is asked, and nothing else")
	page, err := os.ReadFile("../../docs/plan.md")
	require.NoError(t, err)
	for action := range all.taken {
		service, call, _ := strings.Cut(action, ":")
		require.Contains(t, string(page), service+":", "docs/plan.md has the rights")
		require.Contains(t, string(page), call, "docs/plan.md has the rights")
		t.Run("without "+action, func(t *testing.T) {
			code := "AccessDeniedException"
			if service == "ec2" {
				code = "UnauthorizedOperation"
			}
			fault, err := e.cloud.AddFault(aws.Fault{Error: &aws.ErrorFault{Action: action, Code: code}})
			require.NoError(t, err)
			defer func() { require.NoError(t, e.cloud.RemoveFault(fault.ID)) }()
			report := surveyed(t, c, cli.AWS)
			require.Contains(t, denied(report), action)
		})
	}
	t.Run("in the cluster", func(t *testing.T) { withPartialRights(t, config, c) })
}

// withPartialRights in the cluster: all that docs/plan.md names, but for one at a time.
func withPartialRights(t *testing.T, config *rest.Config, c client.Client) {
	rules := map[string]rbacv1.PolicyRule{}
	for _, right := range []string{
		"list nodes", "list pods", "list podnetworks.dovetail.dev", "list eniconfigs.crd.k8s.amazonaws.com", "list nodepools.karpenter.sh", "list ec2nodeclasses.karpenter.k8s.aws",
		"list servicecidrs.networking.k8s.io", "get daemonsets.apps", "get services",
	} {
		verb, kind, _ := strings.Cut(right, " ")
		resource, group, _ := strings.Cut(kind, ".")
		rules[right] = rbacv1.PolicyRule{Verbs: []string{verb}, APIGroups: []string{group}, Resources: []string{resource}}
	}
	role := &rbacv1.ClusterRole{ObjectMeta: metav1.ObjectMeta{Name: "plan"}}
	require.NoError(t, c.Create(t.Context(), role))
	require.NoError(t, c.Create(t.Context(), &rbacv1.ClusterRoleBinding{
		ObjectMeta: metav1.ObjectMeta{Name: "plan"}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "plan"},
		Subjects: []rbacv1.Subject{{APIGroup: rbacv1.GroupName, Kind: "User", Name: "planner"}},
	}))
	limited := rest.CopyConfig(config)
	limited.Impersonate = rest.ImpersonationConfig{UserName: "planner", Groups: []string{"system:authenticated"}}
	planner, err := client.New(limited, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	none := func(context.Context, string) (awssdk.Config, error) { return awssdk.Config{}, fmt.Errorf("not asked") }
	for _, without := range append(slices.Sorted(maps.Keys(rules)), "") {
		role.Rules = lo.Values(lo.OmitByKeys(rules, []string{without}))
		require.NoError(t, c.Update(t.Context(), role))
		require.Eventually(t, func() bool { // the authorizer learns of the rule
			return denied(surveyed(t, planner, none)) == lo.Ternary(without == "", "", "not permitted: "+without)
		}, time.Minute, 50*time.Millisecond, "without %q", without)
	}
	role.Rules = nil
	require.NoError(t, c.Update(t.Context(), role))
	require.Eventually(t, func() bool { return strings.Count(denied(surveyed(t, planner, none)), ", ") == len(rules)-1 }, time.Minute, 50*time.Millisecond, "without any right")
}
