// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/plan"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

// exhausted VPC of seed 003: a /21 with three /24 for nodes, whose pods have taken all addresses.
type exhausted struct {
	*testing.T
	cloud *aws.Cloud
	api   *ec2.Client
	vpc   *string
	nodes []string // subnets by zone
	c     client.Client
}

var planZones = []string{"us-east-1a", "us-east-1b", "us-east-1c"}

func newExhausted(t *testing.T) *exhausted {
	cloud := aws.New(aws.Options{})
	cloud.SetCluster(aws.Cluster{Name: "test"})
	server := httptest.NewServer(cloud.Handler())
	t.Cleanup(server.Close)
	t.Setenv("AWS_ENDPOINT_URL", server.URL)
	t.Setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "secret")
	t.Setenv("AWS_REGION", "eu-west-1") // another cluster's
	e := &exhausted{T: t, cloud: cloud, api: ec2.New(ec2.Options{Region: "us-east-1", BaseEndpoint: awssdk.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")})}
	vpc, err := e.api.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: awssdk.String("10.0.0.0/21")})
	require.NoError(t, err)
	e.vpc = vpc.Vpc.VpcId
	for i, zone := range planZones {
		e.nodes = append(e.nodes, e.subnet(zone, fmt.Sprintf("10.0.%d.0/24", i)))
	}
	return e
}

func (e *exhausted) subnet(zone, cidr string) string {
	out, err := e.api.CreateSubnet(e.Context(), &ec2.CreateSubnetInput{VpcId: e.vpc, AvailabilityZone: &zone, CidrBlock: &cidr})
	require.NoError(e, err)
	return *out.Subnet.SubnetId
}

// fill a subnet with ENIs of 50 addresses, but for some.
func (e *exhausted) fill(subnet string, left int32) {
	for rest := int32(251) - left; rest > 0; rest -= 50 {
		_, err := e.api.CreateNetworkInterface(e.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: &subnet, SecondaryPrivateIpAddressCount: awssdk.Int32(min(rest, 50) - 1)})
		require.NoError(e, err)
	}
}

// cluster of nodes with 20 pods each. With Karpenter, a NodePool has launched them.
func (e *exhausted) cluster(c client.Client, karpenter bool) {
	e.c = c
	serviceAccount(e.T, c)
	labels := map[string]string{}
	if karpenter {
		labels[karpv1.NodePoolLabelKey] = "default"
		class := &ec2nodeclass.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: ec2nodeclass.EC2NodeClassSpec{
			Role: "role", AMISelectorTerms: []ec2nodeclass.AMISelectorTerm{{Alias: "al2023@latest"}},
			SubnetSelectorTerms: []ec2nodeclass.SubnetSelectorTerm{{ID: e.nodes[0]}}, SecurityGroupSelectorTerms: []ec2nodeclass.SecurityGroupSelectorTerm{{ID: "sg-1"}},
		}}
		require.NoError(e, c.Create(e.Context(), class))
		for i, zone := range planZones {
			class.Status.Subnets = append(class.Status.Subnets, ec2nodeclass.Subnet{ID: e.nodes[i], Zone: zone, ZoneID: fmt.Sprint("use1-az", i+1)})
		}
		require.NoError(e, c.Status().Update(e.Context(), class))
		pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
		pool.Spec.Template.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}
		pool.Spec.Template.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"m5.large", "m4.large"}}}
		require.NoError(e, c.Create(e.Context(), pool))
	}
	for i, zone := range planZones {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-" + zone, Labels: lo.Assign(labels, map[string]string{corev1.LabelTopologyZone: zone, corev1.LabelInstanceTypeStable: "m5.large"})}}
		if !karpenter { // its instance tells the VPC
			image, err := e.api.DescribeImages(e.Context(), &ec2.DescribeImagesInput{})
			require.NoError(e, err)
			out, err := e.api.RunInstances(e.Context(), &ec2.RunInstancesInput{ImageId: image.Images[0].ImageId, InstanceType: "m5.large", SubnetId: &e.nodes[i], MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1), TagSpecifications: []ec2types.TagSpecification{{
				ResourceType: ec2types.ResourceTypeInstance, Tags: []ec2types.Tag{{Key: awssdk.String("kubernetes.io/cluster/test"), Value: awssdk.String("owned")}},
			}}})
			require.NoError(e, err)
			node.Spec.ProviderID = "aws:///" + zone + "/" + *out.Instances[0].InstanceId
		}
		require.NoError(e, c.Create(e.Context(), node))
		node.Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("29")}
		require.NoError(e, c.Status().Update(e.Context(), node))
		for k := range 20 {
			pod := pending(fmt.Sprintf("web-%d-%d", i, k))
			pod.Spec.NodeName = node.Name
			require.NoError(e, c.Create(e.Context(), pod))
		}
	}
	require.NoError(e, c.Create(e.Context(), pending("waiting")))
}

func (e *exhausted) plan(args ...string) (plan.Report, error) {
	out, err := run(e.T, append([]string{"plan", "-o", "json"}, args...)...)
	var report plan.Report
	var code interface{ ExitCode() int }
	if err == nil || errors.As(err, &code) {
		require.NoError(e, json.Unmarshal([]byte(out), &report), out)
	}
	if code != nil {
		require.Equal(e, 2, code.ExitCode())
	}
	return report, err
}

func reasons(report plan.Report, severity plan.Severity) []string {
	return lo.FilterMap(report.Findings, func(f plan.Finding, _ int) (string, bool) { return f.Reason, f.Severity == severity })
}

func TestAPlanForAClusterWithoutDovetail(t *testing.T) {
	e := newExhausted(t)
	config := controlplanetest.Start(t)
	useCluster(t, config)
	apis.Register(scheme.Scheme)
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	e.cluster(c, false)
	report, err := e.plan()
	require.NoError(t, err)
	require.Equal(t, plan.FromNobody, report.From)
	require.Equal(t, *e.vpc, report.VPC, "by the nodes' instances")
	require.Equal(t, "test", report.ClusterName, "by their tags")
	require.Empty(t, report.Unread)
	require.Equal(t, []string{plan.ReasonKarpenterMissing}, reasons(report, plan.Warning))
	require.Equal(t, 3, report.NodePools[0].Nodes)
	require.Equal(t, "m5.large", report.NodePools[0].InstanceTypes[0].Name)
	require.Equal(t, []int{29, 110}, []int{report.NodePools[0].InstanceTypes[0].Now, report.NodePools[0].InstanceTypes[0].After})
	require.Positive(t, report.NodePools[0].InstanceTypes[0].USDPerHour)
	require.Len(t, lo.Filter(report.Subnets, func(s plan.Subnet, _ int) bool { return s.Planned }), 3)
	require.Equal(t, 20, report.Zones[0].Pods)
	require.Equal(t, 1, report.PendingPods)

	out, err := run(t, "plan")
	require.NoError(t, err)
	t.Log("\n" + out)
	require.Contains(t, out, "Nodes that Karpenter does not own")

	dir := filepath.Join(t.TempDir(), "manifests")
	out, err = run(t, "plan", "-o", "html", "--write", dir)
	require.NoError(t, err)
	require.Contains(t, out, "<svg")
	_, err = run(t, "plan", "-f", filepath.Join(dir, "podnetwork.yaml"), "--write", dir)
	require.ErrorContains(t, err, "--force overwrites it")

	t.Run("without AWS", func(t *testing.T) {
		withoutCredentials(t)
		out, err := run(t, "plan")
		require.NoError(t, err)
		require.Contains(t, out, "EC2: the VPC, its subnets and prices: there are no AWS credentials")
		require.Contains(t, out, "m5.large")
	})
}

func TestAPlanForAnExhaustedVPC(t *testing.T) {
	e := newExhausted(t)
	config := chartstest.StartAPIServer(t)
	useCluster(t, config)
	apis.Register(scheme.Scheme)
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	e.cluster(c, true)
	for i := range planZones {
		e.fill(e.nodes[i], 0)
	}
	report, err := e.plan()
	require.ErrorAs(t, err, new(harmful))
	require.Equal(t, []string{plan.ReasonNodeSubnetFull}, reasons(report, plan.Harm), "%+v", report.Findings)
	require.Equal(t, 3, report.NodePools[0].Nodes)
	require.Len(t, report.Subnets, 6)
	require.Equal(t, []string{"Fargate profiles"}, lo.Map(report.Unread, func(u plan.Unread, _ int) string { return u.What }))
	require.Contains(t, report.Unread[0].Why, "--cluster-name tells it")
	report, err = e.plan("--cluster-name", "test")
	require.ErrorAs(t, err, new(harmful))
	require.Empty(t, report.Unread)
	require.Equal(t, plan.Limit{Name: "IPv4 CIDR blocks of the VPC", Limit: 5, Used: 1, After: 2}, report.Quotas[1])

	// The PodNetwork from a file.
	file := filepath.Join(t.TempDir(), "network.yaml")
	require.NoError(t, os.WriteFile(file, []byte("# mine\n---\napiVersion: dovetail.dev/v1alpha1\nkind: PodNetwork\nmetadata: {name: default}\nspec: {provision: {cidrs: [192.168.0.0/16]}}\n"), 0o600))
	report, err = e.plan("-f", file)
	require.ErrorAs(t, err, new(harmful))
	require.Contains(t, reasons(report, plan.Harm), "CIDRRestricted")

	// Pod subnets and ENIConfigs by hand.
	_, err = e.api.AssociateVpcCidrBlock(t.Context(), &ec2.AssociateVpcCidrBlockInput{VpcId: e.vpc, CidrBlock: awssdk.String("100.64.0.0/16")})
	require.NoError(t, err)
	var pods []string
	for i, zone := range planZones {
		require.Eventually(t, func() bool {
			cidr := fmt.Sprintf("100.64.%d.0/19", 32*i)
			out, err := e.api.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: e.vpc, AvailabilityZone: &planZones[i], CidrBlock: &cidr})
			if err == nil {
				pods = append(pods, *out.Subnet.SubnetId)
			}
			return err == nil
		}, time.Minute, 100*time.Millisecond, "the block associates")
		require.NoError(t, c.Create(t.Context(), &eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: zone}, Spec: eniconfig.ENIConfigSpec{Subnet: pods[i]}}))
	}
	report, err = e.plan()
	require.ErrorAs(t, err, new(harmful), "there is still no address for a replacement")
	require.Equal(t, []string{plan.ReasonNodeSubnetFull}, reasons(report, plan.Harm))
	require.Equal(t, pods, lo.FilterMap(report.Subnets, func(s plan.Subnet, _ int) (string, bool) { return s.ID, s.Role == plan.RolePods }))

	// Somebody gives back a few addresses of each zone.
	for _, id := range e.nodes {
		enis, err := e.api.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{Filters: []ec2types.Filter{{Name: awssdk.String("subnet-id"), Values: []string{id}}}})
		require.NoError(t, err)
		_, err = e.api.DeleteNetworkInterface(t.Context(), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: enis.NetworkInterfaces[0].NetworkInterfaceId})
		require.NoError(t, err)
	}
	report, err = e.plan()
	require.NoError(t, err)
	require.Empty(t, reasons(report, plan.Harm))
	require.Empty(t, reasons(report, plan.Warning))
	require.Equal(t, 511-1, report.Zones[0].Free.Prefixes)
}

func TestAPlanWithOtherFlags(t *testing.T) {
	for _, args := range [][]string{{"-o", "yaml"}, {"-f", "/nonexistent"}, {"a", "b"}, {"--reserved-enis", "-1"}} {
		_, err := run(t, append([]string{"plan"}, args...)...)
		require.Error(t, err, "%v", args)
		require.False(t, errors.As(err, new(harmful)))
	}
}
