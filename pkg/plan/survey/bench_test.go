// SPDX-License-Identifier: Apache-2.0

package survey_test

import (
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"syscall"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/plan"
	"github.com/dovetail-dev/dovetail/pkg/plan/survey"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

const (
	nodes       = 1000
	podsPerNode = 20
)

var zones = []string{"us-east-1a", "us-east-1b", "us-east-1c"}

// region is a simulated account: a VPC with a /18 for nodes in each zone.
type region struct {
	config  awssdk.Config
	api     *ec2.Client
	subnets []string
}

func newRegion(b *testing.B) *region {
	cloud := aws.New(aws.Options{})
	cloud.SetCluster(aws.Cluster{Name: "large"})
	server := httptest.NewServer(cloud.Handler())
	b.Cleanup(server.Close)
	r := &region{config: awssdk.Config{Region: "us-east-1", BaseEndpoint: awssdk.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", "")}}
	r.api = ec2.NewFromConfig(r.config)
	vpc, err := r.api.CreateVpc(b.Context(), &ec2.CreateVpcInput{CidrBlock: awssdk.String("10.0.0.0/16")})
	require.NoError(b, err)
	for i, zone := range zones {
		subnet, err := r.api.CreateSubnet(b.Context(), &ec2.CreateSubnetInput{VpcId: vpc.Vpc.VpcId, AvailabilityZone: &zone, CidrBlock: awssdk.String(fmt.Sprintf("10.0.%d.0/18", 64*i))})
		require.NoError(b, err)
		r.subnets = append(r.subnets, *subnet.Subnet.SubnetId)
	}
	return r
}

// launch instances with a secondary ENI, and so many addresses on both as aws-node takes for 20 pods.
func (r *region) launch(b *testing.B, subnet string, count int32) []ec2types.Instance {
	images, err := r.api.DescribeImages(b.Context(), &ec2.DescribeImagesInput{})
	require.NoError(b, err)
	eni := func(index int32) ec2types.InstanceNetworkInterfaceSpecification {
		return ec2types.InstanceNetworkInterfaceSpecification{DeviceIndex: &index, SubnetId: &subnet, SecondaryPrivateIpAddressCount: awssdk.Int32(9)}
	}
	out, err := r.api.RunInstances(b.Context(), &ec2.RunInstancesInput{
		ImageId: images.Images[0].ImageId, InstanceType: "m5.large", MinCount: &count, MaxCount: &count, NetworkInterfaces: []ec2types.InstanceNetworkInterfaceSpecification{eni(0), eni(1)},
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeInstance, Tags: []ec2types.Tag{{Key: awssdk.String(ec2nodeclass.EKSClusterNameTagKey), Value: awssdk.String("large")}}}},
	})
	require.NoError(b, err)
	return out.Instances
}

// karpenter has a NodePool for all instance types, and two for families.
func karpenter(b *testing.B, c client.Client, subnets []string) {
	class := &ec2nodeclass.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: ec2nodeclass.EC2NodeClassSpec{
		Role: "role", AMISelectorTerms: []ec2nodeclass.AMISelectorTerm{{Alias: "al2023@latest"}},
		SubnetSelectorTerms: []ec2nodeclass.SubnetSelectorTerm{{ID: subnets[0]}}, SecurityGroupSelectorTerms: []ec2nodeclass.SecurityGroupSelectorTerm{{ID: "sg-1"}},
	}}
	require.NoError(b, c.Create(b.Context(), class))
	for i, zone := range zones {
		class.Status.Subnets = append(class.Status.Subnets, ec2nodeclass.Subnet{ID: subnets[i], Zone: zone})
	}
	require.NoError(b, c.Status().Update(b.Context(), class))
	for name, families := range map[string][]string{"default": nil, "compute": {"c"}, "general": {"m", "r"}} {
		pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: name}}
		pool.Spec.Template.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}
		pool.Spec.Template.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{}
		if families != nil {
			pool.Spec.Template.Spec.Requirements = append(pool.Spec.Template.Spec.Requirements, karpv1.NodeSelectorRequirementWithMinValues{
				Key: ec2nodeclass.LabelInstanceCategory, Operator: corev1.NodeSelectorOpIn, Values: families,
			})
		}
		require.NoError(b, c.Create(b.Context(), pool))
	}
}

// node with its pods.
func node(ctx context.Context, c client.Client, name, zone, pool, instance string) error {
	object := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
		corev1.LabelTopologyZone: zone, corev1.LabelInstanceTypeStable: "m5.large", karpv1.NodePoolLabelKey: pool,
	}}}
	object.Spec.ProviderID = "aws:///" + zone + "/" + instance
	if err := c.Create(ctx, object); err != nil {
		return err
	}
	object.Status.Allocatable = corev1.ResourceList{corev1.ResourcePods: resource.MustParse("29")}
	if err := c.Status().Update(ctx, object); err != nil {
		return err
	}
	for k := range podsPerNode {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: fmt.Sprintf("%s-%d", name, k), Labels: map[string]string{"app": fmt.Sprint("web-", k)}},
			Spec:       corev1.PodSpec{NodeName: name, Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		}
		if err := c.Create(ctx, pod); err != nil {
			return err
		}
	}
	return nil
}

// processorTime that this process has taken, the simulator's part too: unlike the clock's it is the same on a busy machine.
func processorTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// A cluster of 1,000 nodes and 20,000 pods behind a real API server, with NodePools; its VPC in the simulator over HTTP, with the ENIs and
// addresses of its nodes: reading both, plan and text. Instance types and prices are a few dozen pages of EC2's, as in every survey.
func BenchmarkSurveyAndPlanOfALargeCluster(b *testing.B) {
	r := newRegion(b)
	config := chartstest.StartAPIServer(b)
	config.QPS = -1
	apis.Register(scheme.Scheme)
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(b, err)
	require.NoError(b, c.Create(b.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "default"}}))
	karpenter(b, c, r.subnets)
	var all errgroup.Group
	all.SetLimit(32)
	count := 0
	for i, subnet := range r.subnets {
		for left := nodes/len(zones) + lo.Ternary(i < nodes%len(zones), 1, 0); left > 0; {
			batch := min(left, 100)
			left -= batch
			for _, instance := range r.launch(b, subnet, int32(batch)) { //nolint:gosec // at most 100
				name, pool, zone := fmt.Sprint("node-", count), []string{"default", "compute", "general"}[count%3], zones[i]
				count++
				all.Go(func() error { return node(b.Context(), c, name, zone, pool, *instance.InstanceId) })
			}
		}
	}
	require.NoError(b, all.Wait())
	require.Equal(b, nodes, count)
	config.QPS, config.Burst = 50, 100 // as the command's
	cluster, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(b, err)
	for b.Loop() {
		began, cpu := time.Now(), processorTime(b)
		facts, err := survey.Read(b.Context(), survey.Params{Cluster: cluster, AWS: func(context.Context, string) (awssdk.Config, error) { return r.config, nil }})
		require.NoError(b, err)
		require.Empty(b, facts.Unread)
		read := time.Since(began)
		report := plan.Make(facts)
		report.Print(io.Discard, podnetwork.Drawing{})
		b.ReportMetric(read.Seconds(), "s-reading")
		b.ReportMetric((time.Since(began) - read).Seconds(), "s-planning")
		b.ReportMetric((processorTime(b) - cpu).Seconds(), "s-processor")
		require.Len(b, report.NodePools, 3)
		require.Equal(b, nodes*podsPerNode, lo.SumBy(report.NodePools, func(p plan.Pool) int { return p.Pods }))
	}
}
