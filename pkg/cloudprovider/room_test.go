// SPDX-License-Identifier: Apache-2.0

package cloudprovider_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	sdk "github.com/aws/karpenter-provider-aws/pkg/aws"
	awscache "github.com/aws/karpenter-provider-aws/pkg/cache"
	awscloudprovider "github.com/aws/karpenter-provider-aws/pkg/cloudprovider"
	"github.com/aws/karpenter-provider-aws/pkg/providers/amifamily"
	"github.com/aws/karpenter-provider-aws/pkg/providers/arczonalshift"
	"github.com/aws/karpenter-provider-aws/pkg/providers/capacityreservation"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instance"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	"github.com/aws/karpenter-provider-aws/pkg/providers/launchtemplate"
	"github.com/aws/karpenter-provider-aws/pkg/providers/placementgroup"
	"github.com/aws/karpenter-provider-aws/pkg/providers/pricing"
	"github.com/aws/karpenter-provider-aws/pkg/providers/subnet"
	"github.com/patrickmn/go-cache"
	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	core "sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/controllers/nodeoverlay"
	"sigs.k8s.io/karpenter/pkg/events"
	coreoptions "sigs.k8s.io/karpenter/pkg/operator/options"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cloudprovider"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podsubnet"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// region has a simulated account and an API server. Controllers come and go on it.
type region struct {
	*testing.T
	client.Client
	cloud   *simulator.Cloud
	config  aws.Config
	ec2     *ec2.Client
	network *v1alpha1.PodNetwork
	clock   *clocktesting.FakeClock
	vpc     string
	events  *record.FakeRecorder
}

func newRegion(t *testing.T, config *rest.Config) *region {
	t.Helper()
	r := &region{
		T: t, clock: clocktesting.NewFakeClock(time.Now()), events: record.NewFakeRecorder(10000), network: &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "pods"}},
		cloud: simulator.New(simulator.Options{Seed: 5, Latency: simulator.Profile{
			Launch: simulator.Span{Min: 20 * time.Millisecond, Max: 80 * time.Millisecond}, Terminated: time.Hour,
		}}),
	}
	server := httptest.NewServer(r.cloud.Handler())
	t.Cleanup(server.Close)
	r.config = aws.Config{Region: "us-east-1", BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("a", "b", "")}
	r.ec2 = ec2.NewFromConfig(r.config)
	var err error
	r.Client, err = client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	t.Cleanup(func() {
		for _, object := range []client.Object{&karpv1.NodeClaim{}, &ec2nodeclass.EC2NodeClass{}} {
			require.NoError(t, r.DeleteAllOf(context.Background(), object))
		}
	})
	r.createVPC()
	return r
}

func (r *region) createVPC() {
	vpc, err := r.ec2.CreateVpc(r.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/20")})
	require.NoError(r, err)
	r.vpc = *vpc.Vpc.VpcId
	_, err = r.ec2.AssociateVpcCidrBlock(r.Context(), &ec2.AssociateVpcCidrBlockInput{VpcId: &r.vpc, CidrBlock: aws.String("100.64.0.0/16")})
	require.NoError(r, err)
	group, err := r.ec2.CreateSecurityGroup(r.Context(), &ec2.CreateSecurityGroupInput{VpcId: &r.vpc, GroupName: aws.String("nodes"), Description: aws.String("nodes")})
	require.NoError(r, err)
	identity := iam.NewFromConfig(r.config)
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	_, err = identity.CreateRole(r.Context(), &iam.CreateRoleInput{RoleName: aws.String("nodes"), AssumeRolePolicyDocument: &trust})
	require.NoError(r, err)
	_, err = identity.CreateInstanceProfile(r.Context(), &iam.CreateInstanceProfileInput{InstanceProfileName: aws.String("nodes")})
	require.NoError(r, err)
	_, err = identity.AddRoleToInstanceProfile(r.Context(), &iam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String("nodes"), RoleName: aws.String("nodes")})
	require.NoError(r, err)
	images, err := r.ec2.DescribeImages(r.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}, Filters: []ec2types.Filter{
		{Name: aws.String("name"), Values: []string{"amazon-eks-node-al2023-x86_64-standard-1.35-*"}},
	}})
	require.NoError(r, err)

	nodeClass := &ec2nodeclass.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: "default"}, Spec: ec2nodeclass.EC2NodeClassSpec{
		AMISelectorTerms: []ec2nodeclass.AMISelectorTerm{{Alias: "al2023@latest"}}, Role: "nodes",
		SecurityGroupSelectorTerms: []ec2nodeclass.SecurityGroupSelectorTerm{{ID: *group.GroupId}},
	}}
	var subnets []ec2nodeclass.Subnet
	for i, zone := range []string{"us-east-1a", "us-east-1b", "us-east-1c"} {
		id := r.subnet(zone, fmt.Sprintf("10.0.%d.0/24", i))
		nodeClass.Spec.SubnetSelectorTerms = append(nodeClass.Spec.SubnetSelectorTerms, ec2nodeclass.SubnetSelectorTerm{ID: id})
		subnets = append(subnets, ec2nodeclass.Subnet{ID: id, Zone: zone, ZoneID: fmt.Sprint("use1-az", i+1)})
	}
	require.NoError(r, r.Create(r.Context(), nodeClass))
	nodeClass.Status = ec2nodeclass.EC2NodeClassStatus{
		Subnets: subnets, InstanceProfile: "nodes", SecurityGroups: []ec2nodeclass.SecurityGroup{{ID: *group.GroupId}},
		AMIs: []ec2nodeclass.AMI{{ID: *images.Images[0].ImageId, Requirements: []corev1.NodeSelectorRequirement{
			{Key: corev1.LabelArchStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"amd64"}},
		}}},
	}
	for _, condition := range nodeClass.StatusConditions().List() {
		if condition.Type != "Ready" {
			nodeClass.StatusConditions().SetTrue(condition.Type)
		}
	}
	require.NoError(r, r.Status().Update(r.Context(), nodeClass))
}

func (r *region) subnet(zone, cidr string) string {
	out, err := r.ec2.CreateSubnet(r.Context(), &ec2.CreateSubnetInput{VpcId: &r.vpc, AvailabilityZone: &zone, CidrBlock: &cidr})
	require.NoError(r, err)
	return *out.Subnet.SubnetId
}

// podSubnet serves a zone by an ENIConfig; prefixes come from the reservations only.
func (r *region) podSubnet(zone, eniConfig, cidr string, reservations ...string) string {
	id := r.subnet(zone, cidr)
	for _, reserved := range reservations {
		_, err := r.ec2.CreateSubnetCidrReservation(r.Context(), &ec2.CreateSubnetCidrReservationInput{
			SubnetId: &id, Cidr: aws.String(reserved), ReservationType: ec2types.SubnetCidrReservationTypePrefix,
		})
		require.NoError(r, err)
	}
	r.network.Status.Zones = append(r.network.Status.Zones, v1alpha1.ZoneStatus{Zone: zone, ENIConfig: eniConfig, Subnet: id})
	return id
}

// fewTypes leaves only some of EC2's instance types.
type fewTypes struct{ sdk.EC2API }

func (f fewTypes) DescribeInstanceTypes(ctx context.Context, in *ec2.DescribeInstanceTypesInput, more ...func(*ec2.Options)) (*ec2.DescribeInstanceTypesOutput, error) {
	in.Filters = append(in.Filters, ec2types.Filter{Name: aws.String("instance-type"), Values: []string{"m5.large", "c5.large", "c5.xlarge"}})
	return f.EC2API.DescribeInstanceTypes(ctx, in, more...)
}

// controller is a new controller process: upstream's CloudProvider as the operator assembles it, and nothing remembered.
// NodeClaims from before it leads are its predecessor's.
func (r *region) controller(leadsSince time.Time) *cloudprovider.CloudProvider {
	ctx := r.ctx()
	remember := func() *cache.Cache { return cache.New(time.Hour, time.Hour) }
	network := func(context.Context, client.Object) (*v1alpha1.PodNetwork, error) { return r.network, nil }
	reader := &podsubnet.Reader{EC2: r.ec2, Ledger: podnetwork.NewLedger(r.clock), Clock: r.clock}
	recorder := events.NewRecorder(r.events)
	launches, unavailable, shift := launch.NewLaunches(), awscache.NewUnavailableOfferings(), arczonalshift.NewNoopProvider()
	api := launch.EC2{EC2API: r.ec2, Launches: launches, Cluster: "test", PodSubnetFull: reader.Ledger.MarkRefused,
		Tokens: launch.NewTokens(func() time.Time { return leadsSince }, r.clock)}
	subnets := launch.Subnets{Provider: subnet.NewDefaultProvider(r.ec2, remember(), remember()), Launches: launches}
	placement := placementgroup.NewProvider(r.ec2, remember(), remember())
	reservations := capacityreservation.NewProvider(r.ec2, clock.RealClock{}, remember(), remember())
	templates := launchtemplate.NewDefaultProvider(ctx, remember(), api, eks.NewFromConfig(r.config),
		launch.Templates{Upstream: amifamily.NewDefaultResolver("us-east-1"), Launches: launches}, nil, subnets, placement, aws.String("Y2E="), nil, nil, "https://10.0.0.9")
	templates.ClusterCIDR.Store(aws.String("172.20.0.0/16"))
	types := instancetype.NewDefaultProvider(remember(), remember(), remember(), fewTypes{r.ec2}, subnets, pricing.NewDefaultProvider(nil, r.ec2, "us-east-1", true),
		reservations, placement, unavailable, launch.InstanceTypes{Upstream: instancetype.NewDefaultResolver("us-east-1"), Network: network}, shift, nil,
		launch.NewOfferings(network, reader.Ledger))
	require.NoError(r, types.UpdateInstanceTypes(ctx))
	require.NoError(r, types.UpdateInstanceTypeOfferings(ctx))
	instances := launch.Instances{
		Provider: instance.NewDefaultProvider(ctx, "us-east-1", recorder, api, unavailable, subnets, templates, reservations, placement, shift, remember()),
		Launches: launches, Network: network, Client: r.Client, Subnets: subnets, Recorder: recorder,
	}
	lister := launch.Lister{Provider: types}
	return &cloudprovider.CloudProvider{
		CloudProvider: awscloudprovider.New(launch.Listings{Provider: lister}, instances, recorder, r.Client, nil, nil, reservations, placement, nodeoverlay.NewInstanceTypeStore(), nil),
		Client:        r.Client, InstanceTypes: lister, Network: network, Recorder: recorder, PodSubnets: reader,
		LeadsSince: func() time.Time { return leadsSince },
	}
}

func (r *region) ctx() context.Context {
	return coreoptions.ToContext(withOptions(r.Context()), &coreoptions.Options{})
}

// claims are in the API server, as Karpenter makes them before it launches.
func (r *region) claims(n int, requirements ...karpv1.NodeSelectorRequirementWithMinValues) []*karpv1.NodeClaim {
	claims := make([]*karpv1.NodeClaim, n)
	for i := range claims {
		claims[i] = &karpv1.NodeClaim{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "claim-", Labels: map[string]string{karpv1.NodePoolLabelKey: "default"}},
			Spec: karpv1.NodeClaimSpec{
				NodeClassRef: &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"},
				Requirements: append(slices.Clone(requirements), karpv1.NodeSelectorRequirementWithMinValues{
					Key: karpv1.CapacityTypeLabelKey, Operator: corev1.NodeSelectorOpIn, Values: []string{karpv1.CapacityTypeOnDemand},
				}),
			},
		}
		require.NoError(r, r.Create(r.Context(), claims[i]))
	}
	return claims
}

// launch all claims at once, and return those that were, with what Create returned.
func (r *region) launch(p *cloudprovider.CloudProvider, claims []*karpv1.NodeClaim) map[*karpv1.NodeClaim]*karpv1.NodeClaim {
	launched := map[*karpv1.NodeClaim]*karpv1.NodeClaim{}
	var mu sync.Mutex
	var all sync.WaitGroup
	for _, claim := range claims {
		all.Go(func() {
			created, err := p.Create(r.ctx(), claim)
			if core.IsInsufficientCapacityError(err) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				r.Error(err)
				return
			}
			launched[claim] = created
		})
	}
	all.Wait()
	return launched
}

// persist what Create returned, as Karpenter does.
func (r *region) persist(claim, created *karpv1.NodeClaim) {
	claim.Labels, claim.Annotations = lo.Assign(created.Labels, claim.Labels), lo.Assign(claim.Annotations, created.Annotations)
	require.NoError(r, r.Update(r.Context(), claim))
	claim.Status.ProviderID = created.Status.ProviderID
	require.NoError(r, r.Status().Update(r.Context(), claim))
}

// becomeFull does to each node what its agent does when it has as many pods as it can have.
func (r *region) becomeFull(claims ...*karpv1.NodeClaim) {
	for _, created := range claims {
		_, err := r.ec2.CreateNetworkInterface(r.Context(), &ec2.CreateNetworkInterfaceInput{
			SubnetId: aws.String(created.Annotations[v1alpha1.AnnotationLaunchedPodSubnet]), Ipv4PrefixCount: aws.Int32(7),
			TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeNetworkInterface, Tags: []ec2types.Tag{
				{Key: aws.String("node.k8s.amazonaws.com/instance_id"), Value: aws.String(podnetwork.InstanceOf(created))},
			}}},
		})
		require.NoError(r, err, "over-committed")
	}
}

func byZone(launched map[*karpv1.NodeClaim]*karpv1.NodeClaim) map[string]int {
	return lo.CountValuesBy(lo.Values(launched), func(created *karpv1.NodeClaim) string { return created.Labels[corev1.LabelTopologyZone] })
}

func in(key string, values ...string) karpv1.NodeSelectorRequirementWithMinValues {
	return karpv1.NodeSelectorRequirementWithMinValues{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}
}

// ofPrefixes leaves a claim no way out by single addresses.
var ofPrefixes = in(v1alpha1.LabelPrefixDelegation, string(v1alpha1.Enabled))

func TestRoomOfPodSubnets(t *testing.T) {
	config := chartstest.StartAPIServer(t)

	t.Run("200 launches at once fill each zone exactly", func(t *testing.T) {
		r := newRegion(t, config)
		r.podSubnet("us-east-1a", "us-east-1a", "100.64.0.0/19", "100.64.16.0/20", "100.64.8.0/22", "100.64.12.0/23") // 255+64+32 blocks: 50 nodes of 7
		r.podSubnet("us-east-1b", "us-east-1b", "100.64.32.0/26")                                                     // 2 blocks: none
		r.podSubnet("us-east-1c", "us-east-1c", "100.64.64.0/19", "100.64.72.0/21", "100.64.80.0/22")                 // 128+64 blocks: 27 nodes
		p := r.controller(time.Now().Add(-time.Minute))
		claims := r.claims(200, ofPrefixes)
		launched := r.launch(p, claims)
		require.Equal(t, map[string]int{"us-east-1a": 50, "us-east-1c": 27}, byZone(launched))
		require.Len(t, r.cloud.Snapshot().Instances, 77, "EC2 was not asked for more")
		r.becomeFull(lo.Values(launched)...)

		rest := lo.Filter(claims, func(c *karpv1.NodeClaim, _ int) bool { return launched[c] == nil })
		_, err := p.Create(r.ctx(), rest[0])
		require.True(t, core.IsInsufficientCapacityError(err), "%v", err)
		require.ErrorContains(t, err, "(zone us-east-1b, ENIConfig us-east-1b): 2 /28 blocks free, 0 of them set aside for nodes, 7 needed and 1 that single addresses may spoil")
		require.ErrorContains(t, err, "(zone us-east-1a, ENIConfig us-east-1a): 351 /28 blocks free, 350 of them set aside for nodes, 7 needed")

		// What nodes hold is no longer set aside, and what a gone node held is there for the next.
		require.NoError(t, p.PodSubnets.Refresh(r.ctx()))
		for claim, created := range launched {
			podnetwork.Recall(p.PodSubnets.Ledger, withStatus(claim, created))
		}
		_, err = p.Create(r.ctx(), rest[0])
		require.ErrorContains(t, err, "(zone us-east-1a, ENIConfig us-east-1a): 1 /28 blocks free, 0 of them set aside for nodes, 7 needed")
		gone, _ := lo.Find(lo.Keys(launched), func(c *karpv1.NodeClaim) bool { return launched[c].Labels[corev1.LabelTopologyZone] == "us-east-1c" })
		r.end(launched[gone])
		p.PodSubnets.Ledger.Gone(gone.Name)
		require.NoError(t, p.PodSubnets.Refresh(r.ctx()))
		require.Equal(t, map[string]int{"us-east-1c": 1}, byZone(r.launch(p, rest[:20])))
	})

	t.Run("a controller that is killed in the middle leaves nothing uncounted", func(t *testing.T) {
		r := newRegion(t, config)
		podSubnet := r.podSubnet("us-east-1a", "us-east-1a", "100.64.0.0/19", "100.64.16.0/20", "100.64.8.0/22", "100.64.12.0/23")
		p := r.controller(time.Now().Add(-time.Minute))
		claims := r.claims(120, ofPrefixes)
		first := r.launch(p, claims[:30])
		require.Len(t, first, 30)
		var kept []*karpv1.NodeClaim
		var lost []string
		for i, claim := range claims[:30] { // killed before it wrote down the last ten
			if i < 20 {
				r.persist(claim, first[claim])
				kept = append(kept, first[claim])
			} else {
				lost = append(lost, podnetwork.InstanceOf(first[claim]))
			}
		}

		p = r.controller(time.Now().Add(time.Second)) // NodeClaims tell the second of their creation
		again := r.launch(p, claims[20:])
		require.Empty(t, again, "any of them may have an instance already: Karpenter looks for it")
		_, err := r.ec2.TerminateInstances(r.Context(), &ec2.TerminateInstancesInput{InstanceIds: lost}) // as Karpenter's garbage collection does
		require.NoError(t, err)
		r.clock.Step(2 * time.Minute)
		require.NoError(t, p.PodSubnets.Refresh(r.ctx()))
		again = r.launch(p, claims[20:])
		require.Len(t, again, 30, "20 of 50 were there")
		r.becomeFull(append(kept, lo.Values(again)...)...)
		require.NoError(t, p.PodSubnets.Refresh(r.ctx()))
		require.Equal(t, 1, p.PodSubnets.Ledger.Room(podSubnet).Free.Blocks)
	})

	t.Run("several ENIConfigs of a zone fill by room, and the node is told which it has", func(t *testing.T) {
		r := newRegion(t, config)
		r.network.Spec.ENIConfigs.NodeLabel = v1alpha1.LabelENIConfig
		big := r.podSubnet("us-east-1a", "big", "100.64.0.0/24")       // 14 blocks, 8 a node: one
		r.podSubnet("us-east-1a", "small", "100.64.1.0/25")            // 6 blocks: none
		other := r.podSubnet("us-east-1b", "other", "100.64.128.0/23") // 30 blocks: 3
		p := r.controller(time.Now().Add(-time.Minute))
		launched := r.launch(p, r.claims(12, ofPrefixes))
		require.Equal(t, map[string]int{"big": 1, "other": 3}, lo.CountValuesBy(lo.Values(launched), func(created *karpv1.NodeClaim) string {
			return created.Labels[v1alpha1.LabelENIConfig]
		}))
		for _, created := range launched {
			subnet := lo.Ternary(created.Labels[v1alpha1.LabelENIConfig] == "big", big, other)
			require.Equal(t, subnet, created.Annotations[v1alpha1.AnnotationLaunchedPodSubnet])
			require.Equal(t, "prefixes=7,addresses=0,enis=1", created.Annotations[v1alpha1.AnnotationLaunchedNeed])
			found, ok := lo.Find(r.cloud.Snapshot().Instances, func(i simulator.Instance) bool { return i.ID == podnetwork.InstanceOf(created) })
			require.True(t, ok)
			require.Contains(t, string(found.UserData), v1alpha1.LabelENIConfig+"="+created.Labels[v1alpha1.LabelENIConfig])
		}
		_, err := p.Create(r.ctx(), r.claims(1, ofPrefixes, in(v1alpha1.LabelENIConfig, "small"))[0])
		require.ErrorContains(t, err, "(zone us-east-1a, ENIConfig small): 6 /28 blocks free")
		require.NotContains(t, err.Error(), "ENIConfig big", "the pods named one")
	})
}

func TestANodeClassThatAsksForMorePodsThanAddressesIsTold(t *testing.T) {
	r := newRegion(t, chartstest.StartAPIServer(t))
	r.podSubnet("us-east-1a", "us-east-1a", "100.64.0.0/19")
	nodeClass := &ec2nodeclass.EC2NodeClass{}
	require.NoError(t, r.Get(t.Context(), client.ObjectKey{Name: "default"}, nodeClass))
	nodeClass.Spec.Kubelet = &ec2nodeclass.KubeletConfiguration{MaxPods: lo.ToPtr(int32(200))}
	require.NoError(t, r.Update(t.Context(), nodeClass))
	for _, condition := range nodeClass.Status.Conditions { // of the generation that was launched with
		nodeClass.StatusConditions().SetTrue(condition.Type)
	}
	require.NoError(t, r.Status().Update(t.Context(), nodeClass))
	p := r.controller(time.Now().Add(-time.Minute))
	launched := r.launch(p, r.claims(2, karpv1.NodeSelectorRequirementWithMinValues{
		Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"m5.large"},
	}))
	require.Len(t, launched, 2)
	require.Equal(t, "Warning MaxPodsLowered spec.kubelet.maxPods 200 is more than a m5.large serves on pod network pods: its nodes are launched with 110", <-r.events.Events)
	require.Empty(t, r.events.Events, "once an instance type")
}

func withStatus(claim, created *karpv1.NodeClaim) *karpv1.NodeClaim {
	claim = claim.DeepCopy()
	claim.Annotations, claim.Status.ProviderID = created.Annotations, created.Status.ProviderID
	return claim
}

// end a node and what it held.
func (r *region) end(created *karpv1.NodeClaim) {
	_, err := r.ec2.TerminateInstances(r.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{podnetwork.InstanceOf(created)}})
	require.NoError(r, err)
	for _, i := range r.cloud.Snapshot().Interfaces {
		if i.Tags["node.k8s.amazonaws.com/instance_id"] == podnetwork.InstanceOf(created) {
			_, err := r.ec2.DeleteNetworkInterface(r.Context(), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: aws.String(i.ID)})
			require.NoError(r, err)
		}
	}
}
