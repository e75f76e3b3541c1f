// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"context"
	"encoding/base64"
	"net/http/httptest"
	"strings"
	"testing"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	awscache "github.com/aws/karpenter-provider-aws/pkg/cache"
	"github.com/aws/karpenter-provider-aws/pkg/providers/amifamily"
	"github.com/aws/karpenter-provider-aws/pkg/providers/arczonalshift"
	"github.com/aws/karpenter-provider-aws/pkg/providers/capacityreservation"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instance"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	"github.com/aws/karpenter-provider-aws/pkg/providers/launchtemplate"
	"github.com/aws/karpenter-provider-aws/pkg/providers/placementgroup"
	"github.com/aws/karpenter-provider-aws/pkg/providers/subnet"
	"github.com/patrickmn/go-cache"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/events"
	karpoptions "sigs.k8s.io/karpenter/pkg/operator/options"

	"github.com/dovetail-dev/dovetail/charts"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

// launchZones of the node class, each with a node subnet and a pod subnet.
var launchZones = []struct{ name, id, nodeCIDR, podCIDR string }{
	{"us-east-1a", "use1-az1", "10.0.0.0/24", "100.64.0.0/23"},
	{"us-east-1b", "use1-az2", "10.0.1.0/24", "100.64.2.0/23"},
	{"us-east-1c", "use1-az3", "10.0.2.0/24", "100.64.4.0/23"},
}

// account is a simulated AWS account with upstream's providers on it, joined by our seams as the operator joins them.
type account struct {
	*testing.T
	cloud     *simulator.Cloud
	ec2       *ec2.Client
	client    client.Client
	nodeClass *ec2nodeclass.EC2NodeClass
	network   *v1alpha1.PodNetwork
	group     string
	podGroup  string
	// nodeSubnets and podSubnets by zone.
	nodeSubnets, podSubnets map[string]string
	told                    *record.FakeRecorder
	instances               launch.Instances
	subnets                 subnet.Provider
	full                    []string // what PodSubnetFull was told
}

// startENIConfigs starts an API server for ENIConfigs.
func startENIConfigs(t *testing.T) *rest.Config {
	config := controlplanetest.Start(t)
	own, err := charts.Render(charts.CRDs, charts.Release{Name: charts.CRDs})
	require.NoError(t, err)
	var crds []*apiextensionsv1.CustomResourceDefinition
	for _, object := range own {
		crd := &apiextensionsv1.CustomResourceDefinition{}
		require.NoError(t, runtime.DefaultUnstructuredConverter.FromUnstructured(object.Object, crd))
		crds = append(crds, crd)
	}
	_, err = envtest.InstallCRDs(config, envtest.CRDInstallOptions{CRDs: crds})
	require.NoError(t, err)
	return config
}

func newAccount(t *testing.T, config *rest.Config) *account {
	t.Helper()
	a := &account{T: t, cloud: simulator.New(simulator.Options{Seed: 3}), nodeSubnets: map[string]string{}, podSubnets: map[string]string{}, told: record.NewFakeRecorder(100)}
	server := httptest.NewServer(a.cloud.Handler())
	t.Cleanup(server.Close)
	cfg := aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}
	a.ec2 = ec2.NewFromConfig(cfg)
	var err error
	a.client, err = client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	a.network = &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	a.network.Spec.Addressing.Allocation = v1alpha1.AllocationStatic
	a.createVPC()
	a.createProfile(iam.NewFromConfig(cfg))
	a.assemble(eks.NewFromConfig(cfg))
	return a
}

func (a *account) createVPC() {
	ctx := a.Context()
	vpc, err := a.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/21")})
	require.NoError(a, err)
	_, err = a.ec2.AssociateVpcCidrBlock(ctx, &ec2.AssociateVpcCidrBlockInput{VpcId: vpc.Vpc.VpcId, CidrBlock: aws.String("100.64.0.0/20")})
	require.NoError(a, err)
	group := func(name string) string {
		out, err := a.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{VpcId: vpc.Vpc.VpcId, GroupName: aws.String(name), Description: aws.String(name)})
		require.NoError(a, err)
		return *out.GroupId
	}
	a.group, a.podGroup = group("nodes"), group("pods")
	a.nodeClass = nodeClass(ec2nodeclass.AMIFamilyAL2023, nil)
	a.nodeClass.Status.Subnets = nil
	a.nodeClass.Status.SecurityGroups = []ec2nodeclass.SecurityGroup{{ID: a.group}}
	a.nodeClass.Status.InstanceProfile = "nodes"
	a.nodeClass.Status.AMIs[0].ID = a.image()
	for _, z := range launchZones {
		subnet := func(cidr string) string {
			out, err := a.ec2.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc.Vpc.VpcId, AvailabilityZone: aws.String(z.name), CidrBlock: aws.String(cidr)})
			require.NoError(a, err)
			return *out.Subnet.SubnetId
		}
		a.nodeSubnets[z.name], a.podSubnets[z.name] = subnet(z.nodeCIDR), subnet(z.podCIDR)
		a.nodeClass.Status.Subnets = append(a.nodeClass.Status.Subnets, ec2nodeclass.Subnet{ID: a.nodeSubnets[z.name], Zone: z.name, ZoneID: z.id})
		a.nodeClass.Spec.SubnetSelectorTerms = append(a.nodeClass.Spec.SubnetSelectorTerms, ec2nodeclass.SubnetSelectorTerm{ID: a.nodeSubnets[z.name]})
		a.eniConfig(z.name, a.podSubnets[z.name], a.podGroup)
		a.network.Status.Zones = append(a.network.Status.Zones, v1alpha1.ZoneStatus{Zone: z.name, ENIConfig: z.name, Subnet: a.podSubnets[z.name], FreePrefixes: 14})
	}
}

func (a *account) eniConfig(name, subnet string, groups ...string) {
	config := &eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: eniconfig.ENIConfigSpec{Subnet: subnet, SecurityGroups: groups}}
	require.NoError(a, a.client.Create(a.Context(), config))
	a.Cleanup(func() { require.NoError(a, a.client.Delete(context.Background(), config)) })
}

func (a *account) image() string {
	images, err := a.ec2.DescribeImages(a.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}, Filters: []ec2types.Filter{
		{Name: aws.String("architecture"), Values: []string{"x86_64"}}, {Name: aws.String("name"), Values: []string{"amazon-eks-node-al2023-x86_64-standard-1.35-*"}},
	}})
	require.NoError(a, err)
	return *images.Images[0].ImageId
}

func (a *account) createProfile(api *iam.Client) {
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	_, err := api.CreateRole(a.Context(), &iam.CreateRoleInput{RoleName: aws.String("nodes"), AssumeRolePolicyDocument: &trust})
	require.NoError(a, err)
	_, err = api.CreateInstanceProfile(a.Context(), &iam.CreateInstanceProfileInput{InstanceProfileName: aws.String("nodes")})
	require.NoError(a, err)
	_, err = api.AddRoleToInstanceProfile(a.Context(), &iam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String("nodes"), RoleName: aws.String("nodes")})
	require.NoError(a, err)
}

func (a *account) assemble(eksAPI *eks.Client) {
	ctx := a.ctx()
	a.told.IncludeObject = true
	recorder := events.NewRecorder(a.told)
	remember := func() *cache.Cache { return cache.New(awscache.DefaultTTL, awscache.DefaultCleanupInterval) }
	launches := launch.NewLaunches()
	launching := launch.EC2{EC2API: a.ec2, Launches: launches, Cluster: "test", PodSubnetFull: func(subnet, code string) { a.full = append(a.full, subnet+" "+code) }}
	a.subnets = launch.Subnets{Provider: subnet.NewDefaultProvider(a.ec2, remember(), remember()), Launches: launches}
	placement := placementgroup.NewProvider(a.ec2, remember(), remember())
	templates := launchtemplate.NewDefaultProvider(ctx, remember(), launching, eksAPI,
		launch.Templates{Upstream: amifamily.NewDefaultResolver("us-east-1"), Launches: launches}, nil, a.subnets, placement, aws.String("Y2E="), nil, nil, "https://10.0.0.9")
	templates.ClusterCIDR.Store(aws.String("172.20.0.0/16"))
	a.instances = launch.Instances{
		Provider: instance.NewDefaultProvider(ctx, "us-east-1", recorder, launching, awscache.NewUnavailableOfferings(), a.subnets, templates,
			capacityreservation.NewProvider(a.ec2, clock.RealClock{}, remember(), remember()), placement, arczonalshift.NewNoopProvider(), remember()),
		Launches: launches, Client: a.client, Subnets: a.subnets, Recorder: recorder,
		Network: func(context.Context, client.Object) (*v1alpha1.PodNetwork, error) { return a.network, nil },
	}
}

func (a *account) ctx() context.Context {
	return karpoptions.ToContext(testContext(), &karpoptions.Options{FeatureGates: karpoptions.FeatureGates{ReservedCapacity: true}})
}

// claimIn the zones, any when there is none.
func claimIn(zones ...string) *karpv1.NodeClaim {
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "claim", UID: uuid.NewUUID(), Labels: map[string]string{karpv1.NodePoolLabelKey: "default"}}}
	claim.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}
	if len(zones) > 0 {
		claim.Spec.Requirements = append(claim.Spec.Requirements, karpv1.NodeSelectorRequirementWithMinValues{
			Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: zones,
		})
	}
	return claim
}

// launch an instance, and return it with what the launch decided.
func (a *account) launch(claim *karpv1.NodeClaim, names ...string) (*instance.Instance, *launch.Outcome, error) {
	resolver := launch.InstanceTypes{Upstream: instancetype.NewDefaultResolver("us-east-1"), Network: always(a.network)}
	its := lo.Map(names, func(name string, _ int) *cloudprovider.InstanceType {
		it := resolver.Resolve(testContext(), info(a.T, name), []string{"us-east-1a", "us-east-1b", "us-east-1c"}, a.nodeClass)
		return offered(it, map[string]float64{"us-east-1a": 1, "us-east-1b": 1, "us-east-1c": 1})
	})
	ctx, outcome := launch.WithOutcome(a.ctx())
	launched, err := a.instances.Create(ctx, a.nodeClass, claim, map[string]string{"kubernetes.io/cluster/test": "owned", karpv1.NodePoolLabelKey: "default"}, its)
	return launched, outcome, err
}

// interfacesOf an instance, by device index.
func (a *account) interfacesOf(id string) []simulator.Interface {
	return lo.Filter(a.cloud.Snapshot().Interfaces, func(i simulator.Interface, _ int) bool { return i.Attachment != nil && i.Attachment.InstanceID == id })
}

func (a *account) userData(id string) string {
	found, ok := lo.Find(a.cloud.Snapshot().Instances, func(i simulator.Instance) bool { return i.ID == id })
	require.True(a, ok)
	return string(found.UserData)
}

func (a *account) templates() []ec2types.LaunchTemplateVersion {
	out, err := a.ec2.DescribeLaunchTemplateVersions(a.Context(), &ec2.DescribeLaunchTemplateVersionsInput{Versions: []string{"$Latest"}})
	require.NoError(a, err)
	return out.LaunchTemplateVersions
}

// TestStaticLaunches runs one API server for all: each test has its own account.
func TestStaticLaunches(t *testing.T) {
	config := startENIConfigs(t)
	for name, test := range map[string]func(*account){
		"the pod ENI comes with the launch":                                      testPodENIComes,
		"an ENIConfig without groups leaves the pod ENI those of the node":       testNoGroups,
		"single addresses come where the network wants no prefixes":              testSingles,
		"what cannot be launched with pod ENIs allocates dynamically":            testFallbacks,
		"zones that can and a zone that cannot share a request":                  testMixedZones,
		"a template is made only for zones that the launch can use":              testOneZone,
		"a network that goes by ENIConfig label gives the node that label":       testENIConfigLabel,
		"types of several geometries have a template each":                       testFlexible,
		"a full pod subnet is missing capacity, and the node subnet stays good":  testPodSubnetFull,
		"a full node subnet is the node subnet's fault":                          testNodeSubnetFull,
		"a launch takes an address of the node subnet that it uses, of no other": testInFlight,
		"upstream's dry runs see a template without pod ENIs":                    testDryRun,
		"dynamic allocation is upstream's launch":                                testDynamic,
		"a request with more templates than EC2 takes allocates dynamically":     testTooManyTemplates,
		"a NodeClaim that requires an allocation gets it or nothing":             testRequired,
	} {
		t.Run(name, func(t *testing.T) { test(newAccount(t, config)) })
	}
}

func testPodENIComes(a *account) {
	launched, outcome, err := a.launch(claimIn(), "m5.large", "c5.large")
	require.NoError(a, err)
	require.Equal(a, a.nodeSubnets[launched.Zone], launched.SubnetID)
	require.Equal(a, map[string]string{v1alpha1.LabelAllocation: "Static"}, outcome.Labels)
	require.Contains(a, a.userData(launched.ID), v1alpha1.LabelAllocation+"=Static")
	require.Contains(a, a.userData(launched.ID), "maxPods: 110")

	interfaces := a.interfacesOf(launched.ID)
	require.Len(a, interfaces, 2)
	primary, pod := interfaces[0], interfaces[1]
	require.Equal(a, a.nodeSubnets[launched.Zone], primary.SubnetID)
	require.Equal(a, []string{a.group}, primary.Groups)
	require.Empty(a, primary.Prefixes)
	require.Equal(a, a.podSubnets[launched.Zone], pod.SubnetID)
	require.Equal(a, []string{a.podGroup}, pod.Groups)
	require.Len(a, pod.Prefixes, 7)
	require.Equal(a, "test", pod.Tags[eni.TagCluster])
	require.Equal(a, eni.OwnerDovetail, pod.Tags[eni.TagOwner])
	require.Len(a, a.templates(), 3, "one for each zone")
	for _, t := range a.templates() {
		for _, n := range t.LaunchTemplateData.NetworkInterfaces {
			require.Nil(a, n.AssociatePublicIpAddress)
			if *n.DeviceIndex > 0 {
				require.True(a, *n.DeleteOnTermination)
			}
		}
	}
	require.Empty(a, a.told.Events)
}

func testNoGroups(a *account) {
	config := &eniconfig.ENIConfig{}
	require.NoError(a, a.client.Get(a.Context(), client.ObjectKey{Name: "us-east-1b"}, config))
	config.Spec.SecurityGroups = nil
	require.NoError(a, a.client.Update(a.Context(), config))
	launched, _, err := a.launch(claimIn("us-east-1b"), "m5.large")
	require.NoError(a, err)
	require.Equal(a, []string{a.group}, a.interfacesOf(launched.ID)[1].Groups)
}

func testSingles(a *account) {
	a.network.Spec.Addressing.PrefixDelegation = v1alpha1.Disabled
	launched, _, err := a.launch(claimIn(), "m5.large")
	require.NoError(a, err)
	interfaces := a.interfacesOf(launched.ID)
	require.Len(a, interfaces, 3)
	for _, pod := range interfaces[1:] {
		require.Empty(a, pod.Prefixes)
		require.Len(a, pod.Secondaries, 9)
	}
	require.Contains(a, a.userData(launched.ID), "maxPods: 20")
}

func testFallbacks(a *account) {
	original := a.nodeClass.DeepCopy()
	for reason, change := range map[string]func(*karpv1.NodeClaim) (instanceType string){
		podnetwork.ReasonPublicAddress: func(*karpv1.NodeClaim) string {
			a.nodeClass.Spec.AssociatePublicIPAddress = aws.Bool(true)
			return "m5.large"
		},
		podnetwork.ReasonNodeClassInterfaces: func(*karpv1.NodeClaim) string {
			a.nodeClass.Spec.NetworkInterfaces = []*ec2nodeclass.NetworkInterface{{InterfaceType: ec2nodeclass.InterfaceTypeInterface}}
			return "m5.large"
		},
		launch.ReasonEFA: func(claim *karpv1.NodeClaim) string {
			claim.Spec.Resources.Requests = corev1.ResourceList{ec2nodeclass.ResourceEFA: resource.MustParse("1")}
			return "c5n.18xlarge"
		},
	} {
		a.nodeClass = original.DeepCopy()
		claim := claimIn()
		instanceType := change(claim)
		launched, outcome, err := a.launch(claim, instanceType)
		require.NoError(a, err, reason)
		require.Len(a, a.interfacesOf(launched.ID), 1, reason)
		require.Equal(a, map[string]string{v1alpha1.LabelAllocation: "Dynamic"}, outcome.Labels, reason)
		require.Contains(a, a.userData(launched.ID), v1alpha1.LabelAllocation+"=Dynamic", reason)
		require.Len(a, a.told.Events, 1, reason)
		event := <-a.told.Events
		require.Contains(a, event, "Warning "+launch.StaticAllocationUnavailable+" Launched with dynamic allocation ("+reason+"): ")
	}
}

func testMixedZones(a *account) {
	_, err := a.ec2.ModifySubnetAttribute(a.Context(), &ec2.ModifySubnetAttributeInput{
		SubnetId: aws.String(a.nodeSubnets["us-east-1b"]), MapPublicIpOnLaunch: &ec2types.AttributeBooleanValue{Value: aws.Bool(true)},
	})
	require.NoError(a, err)
	_, err = a.instances.Subnets.List(a.ctx(), a.nodeClass)
	require.NoError(a, err)
	// The first request may use all zones: EC2 takes it whole, though its templates differ.
	launched, outcome, err := a.launch(claimIn(), "m5.large", "c5.large")
	require.NoError(a, err)
	static := launched.Zone != "us-east-1b"
	require.Equal(a, lo.Ternary(static, "Static", "Dynamic"), outcome.Labels[v1alpha1.LabelAllocation])
	require.Len(a, a.interfacesOf(launched.ID), lo.Ternary(static, 2, 1))
	require.Len(a, a.templates(), 3, "two zones with pod ENIs, and one for the rest")
	for zone, want := range map[string]string{"us-east-1a": "Static", "us-east-1b": "Dynamic", "us-east-1c": "Static"} {
		launched, outcome, err := a.launch(claimIn(zone), "m5.large")
		require.NoError(a, err)
		require.Equal(a, want, outcome.Labels[v1alpha1.LabelAllocation], zone)
		require.Contains(a, a.userData(launched.ID), v1alpha1.LabelAllocation+"="+want)
		require.Len(a, a.interfacesOf(launched.ID), lo.Ternary(want == "Static", 2, 1))
		require.Equal(a, a.nodeSubnets[zone], launched.SubnetID)
	}
	require.Contains(a, <-a.told.Events, podnetwork.ReasonPublicNodeSubnet)
	a.nodeClass.Spec.AssociatePublicIPAddress = aws.Bool(false)
	_, outcome, err = a.launch(claimIn("us-east-1b"), "m5.large")
	require.NoError(a, err)
	require.Equal(a, "Static", outcome.Labels[v1alpha1.LabelAllocation], "the node class wants no public address after all")
}

func testOneZone(a *account) {
	launched, _, err := a.launch(claimIn("us-east-1c"), "m5.large")
	require.NoError(a, err)
	require.Equal(a, "us-east-1c", launched.Zone)
	require.Len(a, a.templates(), 1)
}

func testENIConfigLabel(a *account) {
	a.network.Spec.ENIConfigs.NodeLabel = v1alpha1.LabelENIConfig
	second := a.podSubnets["us-east-1b"]
	a.eniConfig("a-small", a.podSubnets["us-east-1a"])
	a.eniConfig("a-big", a.podSubnets["us-east-1a"], a.podGroup)
	a.network.Status.Zones = []v1alpha1.ZoneStatus{
		{Zone: "us-east-1a", ENIConfig: "a-small", Subnet: a.podSubnets["us-east-1a"], FreePrefixes: 8},
		{Zone: "us-east-1a", ENIConfig: "a-big", Subnet: a.podSubnets["us-east-1a"], FreePrefixes: 14},
		{Zone: "us-east-1b", ENIConfig: "us-east-1b", Subnet: second, FreePrefixes: 14},
	}
	launched, outcome, err := a.launch(claimIn("us-east-1a"), "m5.large")
	require.NoError(a, err)
	require.Equal(a, "a-big", outcome.Labels[v1alpha1.LabelENIConfig], "the one with most room")
	require.Contains(a, a.userData(launched.ID), v1alpha1.LabelENIConfig+"=a-big")
	require.Equal(a, []string{a.podGroup}, a.interfacesOf(launched.ID)[1].Groups)

	claim := claimIn("us-east-1a")
	claim.Labels[v1alpha1.LabelENIConfig] = "a-small"
	launched, outcome, err = a.launch(claim, "m5.large")
	require.NoError(a, err)
	require.NotContains(a, outcome.Labels, v1alpha1.LabelENIConfig, "the NodeClaim has it")
	require.Equal(a, []string{a.group}, a.interfacesOf(launched.ID)[1].Groups)

	claim = claimIn("us-east-1a")
	claim.Spec.Requirements = append(claim.Spec.Requirements, karpv1.NodeSelectorRequirementWithMinValues{
		Key: v1alpha1.LabelENIConfig, Operator: corev1.NodeSelectorOpNotIn, Values: []string{"a-big"},
	})
	_, outcome, err = a.launch(claim, "m5.large")
	require.NoError(a, err)
	require.Equal(a, "a-small", outcome.Labels[v1alpha1.LabelENIConfig], "the NodeClaim forbids the other")
}

func testFlexible(a *account) {
	_, outcome, err := a.launch(claimIn("us-east-1a"), "m5.large", "c5.xlarge", "t3.small", "m4.large")
	require.NoError(a, err)
	require.Equal(a, "Static", outcome.Labels[v1alpha1.LabelAllocation])
	shapes := lo.Map(a.templates(), func(v ec2types.LaunchTemplateVersion, _ int) []int32 {
		return lo.FlatMap(v.LaunchTemplateData.NetworkInterfaces[1:], func(n ec2types.LaunchTemplateInstanceNetworkInterfaceSpecification, _ int) []int32 {
			return []int32{aws.ToInt32(n.Ipv4PrefixCount), aws.ToInt32(n.SecondaryPrivateIpAddressCount)}
		})
	})
	require.ElementsMatch(a, [][]int32{{7, 0}, {7, 0}, {3, 0, 3, 0}, {0, 9}}, shapes)
}

// fill a subnet but for some addresses, as whole blocks or scattered.
func (a *account) fill(subnet, mode string, leave int) {
	_, err := a.cloud.AddFault(simulator.Fault{Subnet: &simulator.SubnetFault{ID: subnet, Mode: mode, Leave: leave}})
	require.NoError(a, err)
}

func testPodSubnetFull(a *account) {
	for zone, row := range map[string]struct {
		mode  string
		leave int
		code  string
	}{
		"us-east-1a": {simulator.FragmentSubnet, 200, "InsufficientCidrBlocks"},
		"us-east-1b": {simulator.FillSubnet, 40, "InvalidParameterValue"},
		"us-east-1c": {simulator.FillSubnet, 0, "InsufficientFreeAddressesInSubnet"},
	} {
		a.full = nil
		a.fill(a.podSubnets[zone], row.mode, row.leave)
		_, _, err := a.launch(claimIn(zone), "m5.large")
		require.True(a, cloudprovider.IsInsufficientCapacityError(err), "%s: %v", zone, err)
		require.ErrorContains(a, err, "pod subnet "+a.podSubnets[zone]+" has no room", zone)
		require.Equal(a, []string{a.podSubnets[zone] + " " + row.code}, a.full)
	}
}

func testNodeSubnetFull(a *account) {
	a.fill(a.nodeSubnets["us-east-1a"], simulator.FillSubnet, 0)
	_, _, err := a.launch(claimIn("us-east-1a"), "m5.large")
	require.True(a, cloudprovider.IsInsufficientCapacityError(err), "%v", err)
	require.NotContains(a, err.Error(), "pod subnet")
	require.Empty(a, a.full)
}

func testInFlight(a *account) {
	// A second node subnet of a zone with one free address less: upstream takes the one with most.
	out, err := a.ec2.CreateSubnet(a.Context(), &ec2.CreateSubnetInput{
		VpcId: aws.String(a.vpc()), AvailabilityZone: aws.String("us-east-1a"), CidrBlock: aws.String("10.0.4.0/24"),
	})
	require.NoError(a, err)
	second := *out.Subnet.SubnetId
	a.fill(second, simulator.FillSubnet, 250)
	a.nodeClass.Status.Subnets = append(a.nodeClass.Status.Subnets, ec2nodeclass.Subnet{ID: second, Zone: "us-east-1a", ZoneID: "use1-az1"})
	a.nodeClass.Spec.SubnetSelectorTerms = append(a.nodeClass.Spec.SubnetSelectorTerms, ec2nodeclass.SubnetSelectorTerm{ID: second})
	_, err = a.subnets.List(a.ctx(), a.nodeClass) // as the node class's controller does
	require.NoError(a, err)
	chosen := func() string {
		zonal, err := a.subnets.ZonalSubnetsForLaunch(a.ctx(), a.nodeClass, nil, karpv1.CapacityTypeOnDemand)
		require.NoError(a, err)
		return zonal["us-east-1a"].ID
	}
	a.fill(a.podSubnets["us-east-1a"], simulator.FillSubnet, 0)
	for range 2 { // a third would choose the second subnet and make the two equal again
		launched, _, err := a.launch(claimIn(), "m5.large")
		require.NoError(a, err)
		require.NotEqual(a, "us-east-1a", launched.Zone)
	}
	require.Equal(a, a.nodeSubnets["us-east-1a"], chosen(), "launches that went to another zone took nothing here")
}

func (a *account) vpc() string {
	out, err := a.ec2.DescribeVpcs(a.Context(), &ec2.DescribeVpcsInput{})
	require.NoError(a, err)
	return *out.Vpcs[0].VpcId
}

func testDryRun(a *account) {
	templates := launchTemplates(a.T, a.nodeClass, resolve(a.T, a.network, a.nodeClass, "m5.large"))
	require.Len(a, templates, 1)
	require.Empty(a, templates[0].Zone)
	require.Empty(a, templates[0].NetworkInterfaces)
}

func testDynamic(a *account) {
	a.network.Spec.Addressing.Allocation = v1alpha1.AllocationDynamic
	launched, outcome, err := a.launch(claimIn(), "m5.large")
	require.NoError(a, err)
	require.Len(a, a.interfacesOf(launched.ID), 1)
	require.Len(a, a.templates(), 1)
	require.Empty(a, outcome.Labels)
	require.False(a, strings.Contains(a.userData(launched.ID), v1alpha1.LabelAllocation))
	data, err := base64.StdEncoding.DecodeString(*a.templates()[0].LaunchTemplateData.UserData)
	require.NoError(a, err)
	require.Contains(a, string(data), "maxPods: 110")
}

func testRequired(a *account) {
	requiring := func(allocation v1alpha1.Allocation) *karpv1.NodeClaim {
		claim := claimIn()
		claim.Spec.Requirements = append(claim.Spec.Requirements, karpv1.NodeSelectorRequirementWithMinValues{
			Key: v1alpha1.LabelAllocation, Operator: corev1.NodeSelectorOpIn, Values: []string{string(allocation)},
		})
		return claim
	}
	for _, allocation := range []v1alpha1.Allocation{v1alpha1.AllocationStatic, v1alpha1.AllocationDynamic} {
		_, outcome, err := a.launch(requiring(allocation), "m5.large")
		require.NoError(a, err)
		require.Equal(a, string(allocation), outcome.Labels[v1alpha1.LabelAllocation])
	}
	a.nodeClass.Spec.AssociatePublicIPAddress = aws.Bool(true)
	_, _, err := a.launch(requiring(v1alpha1.AllocationStatic), "m5.large")
	require.True(a, cloudprovider.IsInsufficientCapacityError(err), "%v", err)
	require.ErrorContains(a, err, "the NodeClaim requires dovetail.dev/allocation Static: EC2NodeClass default has associatePublicIPAddress: true")
}

func testTooManyTemplates(a *account) {
	families := []string{"c5.", "c5n.", "m5.", "m5zn.", "r6i.", "t3.", "x1e.", "z1d."}
	names := lo.Filter(instancetypes.Names(), func(name string, _ int) bool {
		return lo.SomeBy(families, func(family string) bool { return strings.HasPrefix(name, family) })
	})
	launched, outcome, err := a.launch(claimIn(), names...)
	require.NoError(a, err)
	require.Equal(a, "Dynamic", outcome.Labels[v1alpha1.LabelAllocation])
	require.Len(a, a.interfacesOf(launched.ID), 1)
	require.Contains(a, <-a.told.Events, launch.ReasonTooManyTemplates)
	require.LessOrEqual(a, len(a.templates()), 50)
}
