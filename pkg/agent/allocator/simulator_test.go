// SPDX-License-Identifier: Apache-2.0

package allocator_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/allocator"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// cluster is a world whose EC2 is the simulator, behind HTTP and the SDK, with an m5.large in it.
type cluster struct {
	*world
	cloud *simulator.Cloud
	api   *ec2.Client

	mu    sync.Mutex
	calls map[string]int // that change something, by action
}

func newCluster(t *testing.T, podCIDR string) *cluster {
	t.Helper()
	ctx := t.Context()
	c := &cluster{cloud: simulator.New(simulator.Options{Seed: 1}), calls: map[string]int{}}
	handler := c.cloud.Handler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handler.ServeHTTP(w, r) }))
	t.Cleanup(server.Close)
	c.api = ec2.NewFromConfig(aws.Config{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""),
		Retryer: func() aws.Retryer {
			return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxBackoff = time.Millisecond; o.RateLimiter = noLimit{} })
		},
	})
	vpc, err := c.api.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/16")})
	require.NoError(t, err)
	subnet := func(cidr string) string {
		out, err := c.api.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc.Vpc.VpcId, CidrBlock: aws.String(cidr), AvailabilityZone: aws.String("us-east-1a")})
		require.NoError(t, err)
		return aws.ToString(out.Subnet.SubnetId)
	}
	nodes, pods := subnet("10.0.0.0/24"), subnet(podCIDR)
	images, err := c.api.DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"amazon"}, Filters: []ec2types.Filter{
		{Name: aws.String("architecture"), Values: []string{"x86_64"}}, {Name: aws.String("name"), Values: []string{"amazon-eks-node-al2023-x86_64-standard-1.35-*"}},
	}})
	require.NoError(t, err)
	launched, err := c.api.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: images.Images[0].ImageId, InstanceType: "m5.large", MinCount: aws.Int32(1), MaxCount: aws.Int32(1), SubnetId: aws.String(nodes),
	})
	require.NoError(t, err)
	id := aws.ToString(launched.Instances[0].InstanceId)
	require.EventuallyWithT(t, func(check *assert.CollectT) {
		out, err := c.api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		if assert.NoError(check, err) {
			assert.Equal(check, ec2types.InstanceStateNameRunning, out.Reservations[0].Instances[0].State.Name)
		}
	}, time.Minute, 10*time.Millisecond)
	c.world = &world{
		t: t, rng: rand.New(rand.NewPCG(1, 7)), now: time.Unix(1e9, 0).UTC(),
		leases: map[netip.Addr]bool{}, cooling: map[netip.Addr]time.Time{}, subnet: pods,
		demand: allocator.Demand{Geometry: podcapacity.Geometry{ENIs: 3, IPsPerENI: 10, PrefixCapable: true}, Prefixes: true, Targets: pool.Targets{Prefix: 1, ENI: 1}},
	}
	c.world.cloud = counting{&eni.Client{EC2: c.api, InstanceID: id, Cluster: "test"}, c}
	c.restart()
	return c
}

type noLimit struct{}

func (noLimit) GetToken(context.Context, uint) (func() error, error) {
	return func() error { return nil }, nil
}
func (noLimit) AddTokens(uint) error { return nil }

// counting counts what the allocator asks for.
type counting struct {
	*eni.Client
	c *cluster
}

func (n counting) count(what string) {
	n.c.mu.Lock()
	defer n.c.mu.Unlock()
	n.c.calls[what]++
}

func (n counting) Create(ctx context.Context, p eni.CreateParams) (eni.ENI, error) {
	n.count(fmt.Sprintf("create with %d of unit %s", p.Count, p.Unit))
	return n.Client.Create(ctx, p)
}

func (n counting) Assign(ctx context.Context, id string, unit pool.Unit, count int) ([]netip.Prefix, error) {
	n.count(fmt.Sprintf("assign %d of unit %s", count, unit))
	return n.Client.Assign(ctx, id, unit, count)
}

func (n counting) Unassign(ctx context.Context, id string, prefixes []netip.Prefix) error {
	n.count("unassign")
	return n.Client.Unassign(ctx, id, prefixes)
}

func (n counting) Detach(ctx context.Context, e eni.ENI) error {
	n.count("detach")
	return n.Client.Detach(ctx, e)
}

func (c *cluster) fault(f simulator.Fault) (id string) {
	c.t.Helper()
	added, err := c.cloud.AddFault(f)
	require.NoError(c.t, err)
	return added.ID
}

// run lets the agent work for a while.
func (c *cluster) run(d time.Duration) {
	for end := c.now.Add(d); c.now.Before(end); c.pass(5 * time.Second) {
		c.loop()
	}
	c.loop()
}

// truth compares EC2 with what is published, and returns it.
func (c *cluster) truth() (prefixes []netip.Prefix, enis int) {
	c.t.Helper()
	out, err := c.api.DescribeNetworkInterfaces(c.t.Context(), &ec2.DescribeNetworkInterfacesInput{Filters: []ec2types.Filter{{Name: aws.String("tag-key"), Values: []string{eni.TagInstance}}}})
	require.NoError(c.t, err)
	for _, n := range out.NetworkInterfaces {
		require.Equal(c.t, ec2types.NetworkInterfaceStatusInUse, n.Status, "left behind")
		require.True(c.t, *n.Attachment.DeleteOnTermination)
		for _, p := range n.Ipv4Prefixes {
			prefixes = append(prefixes, netip.MustParsePrefix(*p.Ipv4Prefix))
		}
		for _, a := range n.PrivateIpAddresses {
			if !*a.Primary {
				prefixes = append(prefixes, netip.PrefixFrom(netip.MustParseAddr(*a.PrivateIpAddress), 32))
			}
		}
	}
	require.ElementsMatch(c.t, prefixes, c.published)
	return prefixes, len(out.NetworkInterfaces)
}

func (c *cluster) sizes() (prefixes, singles int) {
	c.t.Helper()
	all, _ := c.truth()
	for _, p := range all {
		if p.IsSingleIP() {
			singles++
		} else {
			prefixes++
		}
	}
	return prefixes, singles
}

func TestABurstIsOneRequest(t *testing.T) {
	c := newCluster(t, "10.0.32.0/19")
	c.waiting = 64
	c.loop()
	require.Zero(t, c.waiting)
	require.Equal(t, map[string]int{"create with 5 of unit prefix": 1}, c.calls)
	c.waiting = 40
	c.loop()
	require.Equal(t, map[string]int{"create with 5 of unit prefix": 1, "assign 3 of unit prefix": 1}, c.calls)
	c.truth()
}

func TestWhatABurstLeftIsGivenBackAndAnIdleENIDeleted(t *testing.T) {
	c := newCluster(t, "10.0.32.0/19")
	c.waiting = 160
	c.run(time.Second)
	require.Zero(t, c.waiting)
	_, enis := c.truth()
	require.Equal(t, 2, enis)
	c.end(len(c.leases) - 1)
	c.run(cooldown - time.Second)
	prefixes, singles := c.sizes()
	require.Equal(t, []int{11, 0}, []int{prefixes, singles}, "nothing goes while addresses cool down")
	c.run(5 * time.Minute)
	prefixes, singles = c.sizes()
	require.Equal(t, []int{2, 0}, []int{prefixes, singles}, "the pod's, and the warm one")
	_, enis = c.truth()
	require.Equal(t, 1, enis)
	before := fmt.Sprint(c.calls)
	c.run(time.Hour)
	require.Equal(t, before, fmt.Sprint(c.calls), "a steady demand asks for nothing")
}

func TestADemandThatComesBackKeepsWhatIsOnItsWay(t *testing.T) {
	c := newCluster(t, "10.0.32.0/19")
	c.waiting = 60
	c.loop()
	c.end(60)
	c.run(cooldown)
	for published := len(c.published); len(c.published) == published; c.pass(time.Second) {
		c.loop()
	}
	calls := fmt.Sprint(c.calls)
	c.waiting = 64
	c.loop()
	require.Zero(t, c.waiting, "served from what was no longer published")
	require.Equal(t, calls, fmt.Sprint(c.calls)[:len(calls)], "without a request")
	c.run(time.Minute)
	c.truth()
}

// aws-node keeps running totals, and subtracts those of an ENI that it removes by force twice (v1.23.1, RemoveENIFromDataStore).
func TestAnENIThatSomebodyTookAwayIsNotSubtractedTwice(t *testing.T) {
	c := newCluster(t, "10.0.32.0/19")
	c.waiting = 160
	c.loop()
	require.Zero(t, c.waiting)
	enis := c.allocator.ENIs()
	require.Len(t, enis, 2)
	taken := enis[1]
	for a := range c.leases { // its pods ended
		if slices.ContainsFunc(taken.Prefixes, func(p netip.Prefix) bool { return p.Contains(a) }) {
			delete(c.leases, a)
		}
	}
	_, err := c.api.DetachNetworkInterface(t.Context(), &ec2.DetachNetworkInterfaceInput{AttachmentId: aws.String(taken.AttachmentID)})
	require.NoError(t, err)
	require.EventuallyWithT(t, func(check *assert.CollectT) {
		_, err := c.api.DeleteNetworkInterface(t.Context(), &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: aws.String(taken.ID)})
		assert.NoError(check, err)
	}, time.Minute, 20*time.Millisecond)
	c.run(30 * time.Minute)
	prefixes, _ := c.truth()
	result, err := c.step()
	require.NoError(t, err)
	total, leased, cooling := result.Input.Usage()
	require.Equal(t, []int{16 * len(prefixes), len(c.leases), 0}, []int{total, leased, cooling})
	require.GreaterOrEqual(t, total, len(c.leases)+16)
}

func TestALostReplyToAssignDoesNotDouble(t *testing.T) {
	c := newCluster(t, "10.0.32.0/19")
	c.waiting = 1
	c.loop()
	c.fault(simulator.Fault{Times: 1, LostReply: &simulator.LostReplyFault{Action: "AssignPrivateIpAddresses"}})
	c.waiting = 50
	c.loop()
	require.Error(t, c.lastErr)
	c.run(10 * time.Second)
	require.NoError(t, c.lastErr)
	require.Zero(t, c.waiting)
	prefixes, _ := c.sizes()
	require.Equal(t, 5, prefixes)
}

func TestAnAgentThatDiedBetweenCreateAndAttachLeavesNoENI(t *testing.T) {
	c := newCluster(t, "10.0.32.0/19")
	client := c.world.cloud.(counting)
	for _, action := range []string{"AttachNetworkInterface", "DeleteNetworkInterface"} {
		c.fault(simulator.Fault{Times: 1, Error: &simulator.ErrorFault{Action: action, Code: "UnauthorizedOperation"}})
	}
	_, err := client.Client.Create(t.Context(), eni.CreateParams{Subnet: c.subnet, Unit: pool.Prefix, Count: 1, MaxENIs: 3})
	require.Error(t, err)
	c.restart()
	c.loop()
	_, enis := c.truth()
	require.Equal(t, 1, enis)
}

func TestASubnetWithoutAPrefixGivesAddressesAndThenPrefixesAgain(t *testing.T) {
	c := newCluster(t, "10.0.1.0/24")
	fault := c.fault(simulator.Fault{Subnet: &simulator.SubnetFault{ID: c.subnet, Mode: simulator.FragmentSubnet, Leave: 60}})
	c.waiting = 4
	c.run(time.Minute)
	require.NoError(t, c.lastErr)
	require.Zero(t, c.waiting)
	prefixes, singles := c.sizes()
	require.Equal(t, c.subnet, c.refused.Subnet)
	require.Equal(t, "InsufficientCidrBlocks", c.refused.Code, "of EC2, though the node has addresses")
	require.False(t, c.refused.At.After(c.now))
	require.Equal(t, []int{0, 17}, []int{prefixes, singles}, "all that two ENIs hold but for a /28's slot, on the way to 4 and 16 warm ones")
	require.NoError(t, c.cloud.RemoveFault(fault))
	c.run(2 * time.Hour)
	prefixes, _ = c.sizes()
	require.Positive(t, prefixes)
	c.end(2)
	c.run(time.Hour)
	prefixes, singles = c.sizes()
	require.Equal(t, []int{1, 2}, []int{prefixes, singles}, "the pods' addresses, and a warm prefix")
}

// TestPodsThatTookAllSingleAddressesDoNotKeepTheNextOneFromAPrefix: pods do not give their addresses back, so that the slots which they
// hold are lost to prefixes for as long as they live.
func TestPodsThatTookAllSingleAddressesDoNotKeepTheNextOneFromAPrefix(t *testing.T) {
	c := newCluster(t, "10.0.1.0/24")
	fault := c.fault(simulator.Fault{Subnet: &simulator.SubnetFault{ID: c.subnet, Mode: simulator.FragmentSubnet, Leave: 60}})
	c.waiting = 19 // two ENIs have 18 slots
	c.run(time.Minute)
	require.Equal(t, eni.NoFreePrefix, eni.Classify(c.lastErr), "%v", c.lastErr)
	require.ErrorContains(t, c.lastErr, "their last free slot is kept for a /28")
	require.Equal(t, 2, c.waiting)
	require.NoError(t, c.cloud.RemoveFault(fault))
	c.run(10 * time.Minute)
	require.NoError(t, c.lastErr)
	require.Zero(t, c.waiting)
	prefixes, singles := c.sizes()
	require.Equal(t, []int{1, 17}, []int{prefixes, singles})
}

func TestAFullSubnetIsAskedForFewerAndThenSaysSo(t *testing.T) {
	c := newCluster(t, "10.0.1.0/24")
	fault := c.fault(simulator.Fault{Subnet: &simulator.SubnetFault{ID: c.subnet, Mode: simulator.FillSubnet, Leave: 12}})
	c.waiting = 64
	c.run(time.Minute)
	require.Equal(t, eni.SubnetFull, eni.Classify(c.lastErr), "%v", c.lastErr)
	require.ErrorContains(t, c.lastErr, c.subnet)
	require.Equal(t, c.subnet, c.refused.Subnet)
	prefixes, singles := c.sizes()
	require.Equal(t, []int{0, 10}, []int{prefixes, singles}, "two ENIs have an address of their own")
	require.Len(t, c.leases, 10)
	require.NoError(t, c.cloud.RemoveFault(fault))
	c.run(10 * time.Minute)
	require.NoError(t, c.lastErr)
	require.Zero(t, c.waiting)
}

func TestAnENIOfSomebodyElseIsCountedAndLeftAlone(t *testing.T) {
	c := newCluster(t, "10.0.32.0/19")
	c.loop() // it believes that two ENIs are free, and takes one
	foreign, err := c.api.CreateNetworkInterface(t.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: aws.String(c.subnet)})
	require.NoError(t, err)
	_, err = c.api.AttachNetworkInterface(t.Context(), &ec2.AttachNetworkInterfaceInput{
		NetworkInterfaceId: foreign.NetworkInterface.NetworkInterfaceId, InstanceId: aws.String(c.world.cloud.(counting).InstanceID), DeviceIndex: aws.Int32(2),
	})
	require.NoError(t, err)
	c.waiting = 200
	c.run(time.Minute)
	require.Equal(t, eni.Exhausted, eni.Classify(c.lastErr), "%v", c.lastErr)
	require.ErrorContains(t, c.lastErr, "3 of 3 ENIs attached")
	require.Equal(t, 200-9*16, c.waiting)
	_, enis := c.truth()
	require.Equal(t, 1, enis)
	out, err := c.api.DescribeNetworkInterfaces(t.Context(), &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{*foreign.NetworkInterface.NetworkInterfaceId}})
	require.NoError(t, err)
	require.Equal(t, ec2types.NetworkInterfaceStatusInUse, out.NetworkInterfaces[0].Status)
}

func TestReservedENIsAreNotUsed(t *testing.T) {
	c := newCluster(t, "10.0.32.0/19")
	c.demand.ReservedENIs = 1
	c.waiting = 200
	c.run(time.Minute)
	_, enis := c.truth()
	require.Equal(t, 1, enis)
	c.demand.ReservedENIs, c.demand.MaxENIs = 0, 2
	c.run(10 * time.Minute)
	_, enis = c.truth()
	require.Equal(t, 1, enis)
	c.demand.MaxENIs = 0
	c.run(10 * time.Minute)
	_, enis = c.truth()
	require.Equal(t, 2, enis)
}

func TestSingleAddressesComeAndGoWithTheirENI(t *testing.T) {
	c := newCluster(t, "10.0.32.0/19")
	c.demand.Prefixes = false
	c.loop()
	_, singles := c.sizes()
	require.Equal(t, 9, singles)
	c.waiting = 3
	c.loop()
	_, singles = c.sizes()
	require.Equal(t, 18, singles)
	c.end(3)
	c.run(10 * time.Minute)
	_, singles = c.sizes()
	require.Equal(t, 9, singles)
}

func TestNothingIsLostOrDoubledWhenCallsFailAtRandom(t *testing.T) {
	c := newCluster(t, "10.0.32.0/19")
	for i, action := range []string{
		"CreateNetworkInterface", "AttachNetworkInterface", "ModifyNetworkInterfaceAttribute", "AssignPrivateIpAddresses", "UnassignPrivateIpAddresses",
		"DetachNetworkInterface", "DeleteNetworkInterface", "DescribeNetworkInterfaces",
	} {
		seed := uint64(i + 1)
		c.fault(simulator.Fault{Seed: seed, LostReply: &simulator.LostReplyFault{Action: action, Rate: 0.3}})
		c.fault(simulator.Fault{Seed: seed, Error: &simulator.ErrorFault{Action: action, Code: "InternalError", Rate: 0.2, AfterEffect: i%2 == 0}})
	}
	for range 120 {
		switch c.rng.IntN(4) {
		case 0:
			c.waiting += c.rng.IntN(40)
		case 1:
			c.end(c.rng.IntN(len(c.leases) + 1))
		case 2:
			c.waiting = 0
		case 3:
			c.restart()
		}
		c.loop()
		c.pass(time.Duration(c.rng.IntN(60)) * time.Second)
	}
	c.cloud.ClearFaults()
	c.run(time.Hour)
	require.NoError(t, c.lastErr)
	all, _ := c.truth()
	for a := range c.leases {
		require.True(t, slices.ContainsFunc(all, func(p netip.Prefix) bool { return p.Contains(a) }), "a pod has %s, which no ENI has", a)
	}
	before := fmt.Sprint(c.calls)
	c.run(time.Hour)
	require.Equal(t, before, fmt.Sprint(c.calls))
}
