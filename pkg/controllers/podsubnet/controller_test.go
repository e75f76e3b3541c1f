// SPDX-License-Identifier: Apache-2.0

package podsubnet_test

import (
	"context"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podsubnet"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// vpc of a simulated account; calls counts what is asked of EC2.
type vpc struct {
	*testing.T
	cloud *simulator.Cloud
	ec2   *ec2.Client
	id    *string
	calls *calls
}

type calls struct {
	podsubnet.EC2
	mu sync.Mutex
	n  map[string]int
}

func (c *calls) count(action string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[action]++
}

func (c *calls) of(action string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[action]
}

func (c *calls) DescribeNetworkInterfaces(ctx context.Context, in *ec2.DescribeNetworkInterfacesInput, more ...func(*ec2.Options)) (*ec2.DescribeNetworkInterfacesOutput, error) {
	c.count("DescribeNetworkInterfaces")
	return c.EC2.DescribeNetworkInterfaces(ctx, in, more...)
}

func (c *calls) GetSubnetCidrReservations(ctx context.Context, in *ec2.GetSubnetCidrReservationsInput, more ...func(*ec2.Options)) (*ec2.GetSubnetCidrReservationsOutput, error) {
	c.count("GetSubnetCidrReservations")
	return c.EC2.GetSubnetCidrReservations(ctx, in, more...)
}

func newVPC(t *testing.T) *vpc {
	t.Helper()
	v := &vpc{T: t, cloud: simulator.New(simulator.Options{Seed: 7})}
	server := httptest.NewServer(v.cloud.Handler())
	t.Cleanup(server.Close)
	v.ec2 = ec2.New(ec2.Options{
		Region: "us-east-1", BaseEndpoint: aws.String(server.URL), Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
	v.calls = &calls{EC2: v.ec2, n: map[string]int{}}
	out, err := v.ec2.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: aws.String("100.64.0.0/16")})
	require.NoError(t, err)
	v.id = out.Vpc.VpcId
	return v
}

func (v *vpc) subnet(cidr string) string {
	out, err := v.ec2.CreateSubnet(v.Context(), &ec2.CreateSubnetInput{VpcId: v.id, AvailabilityZone: aws.String("us-east-1a"), CidrBlock: aws.String(cidr)})
	require.NoError(v, err)
	return *out.Subnet.SubnetId
}

func (v *vpc) podENI(subnet, instance string, prefixes int32) {
	_, err := v.ec2.CreateNetworkInterface(v.Context(), &ec2.CreateNetworkInterfaceInput{
		SubnetId: &subnet, Ipv4PrefixCount: &prefixes,
		TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeNetworkInterface, Tags: []ec2types.Tag{
			{Key: aws.String("node.k8s.amazonaws.com/instance_id"), Value: &instance},
		}}},
	})
	require.NoError(v, err)
}

func (v *vpc) reader(c clock.Clock) *podsubnet.Reader {
	return &podsubnet.Reader{EC2: v.calls, Ledger: podnetwork.NewLedger(c), Clock: c}
}

func TestManyWhoWantASubnetReadItOnceAndAllSubnetsInOneCall(t *testing.T) {
	v := newVPC(t)
	one, two := v.subnet("100.64.0.0/24"), v.subnet("100.64.1.0/24")
	_, err := v.ec2.CreateSubnetCidrReservation(t.Context(), &ec2.CreateSubnetCidrReservationInput{
		SubnetId: &two, Cidr: aws.String("100.64.1.128/25"), ReservationType: ec2types.SubnetCidrReservationTypePrefix,
	})
	require.NoError(t, err)
	v.podENI(one, "i-1", 3)
	reader := v.reader(clock.RealClock{})
	var all sync.WaitGroup
	for range 50 {
		all.Go(func() {
			if err := reader.Ensure(t.Context(), one, two, "subnet-00000000000000000"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	require.Equal(t, podcapacity.Need{Prefixes: 3, ENIs: 1}, reader.Ledger.Snapshot(one).Held["i-1"])
	require.Equal(t, 7, reader.Ledger.Snapshot(two).Capacity.FreePrefixes)
	require.True(t, reader.Ledger.Room(two).Apart)
	require.Nil(t, reader.Ledger.Snapshot("subnet-00000000000000000"))
	require.Equal(t, 1, v.calls.of("DescribeNetworkInterfaces"))

	require.NoError(t, reader.Refresh(t.Context()))
	require.Equal(t, 2, v.calls.of("DescribeNetworkInterfaces"), "one call for all")
	require.Equal(t, 2, v.calls.of("GetSubnetCidrReservations"), "they seldom change")
}

func TestAReadingTellsWhenFiguresHaveChanged(t *testing.T) {
	v := newVPC(t)
	id := v.subnet("100.64.0.0/24")
	reader := v.reader(clock.RealClock{})
	changed := func() bool {
		require.NoError(t, reader.Refresh(t.Context()))
		select {
		case <-reader.Changed():
			return true
		default:
			return false
		}
	}
	require.NoError(t, reader.Ensure(t.Context(), id, "subnet-00000000000000000"))
	require.True(t, changed(), "the first reading")
	require.False(t, changed())
	v.podENI(id, "i-1", 3)
	require.True(t, changed())
	require.False(t, changed())
	place := podnetwork.Place{Zone: "us-east-1a", ENIConfig: "a", Subnet: id}
	reader.Ledger.Reserve(t.Context(), podnetwork.Request{Owner: "one", Need: podcapacity.Need{Prefixes: 2, ENIs: 1}, Zones: [][]podnetwork.Place{{place}}})
	require.True(t, changed(), "what is set aside shows too")
	require.False(t, changed())
}

func TestASubnetThatIsDeletedTakesNoMoreNodes(t *testing.T) {
	v := newVPC(t)
	id := v.subnet("100.64.0.0/24")
	reader := v.reader(clock.RealClock{})
	require.NoError(t, reader.Ensure(t.Context(), id))
	_, err := v.ec2.DeleteSubnet(t.Context(), &ec2.DeleteSubnetInput{SubnetId: &id})
	require.NoError(t, err)
	require.NoError(t, reader.Refresh(t.Context()))
	_, refused := reader.Ledger.Reserve(t.Context(), podnetwork.Request{
		Owner: "one", Need: podcapacity.Need{Prefixes: 1, ENIs: 1}, Zones: [][]podnetwork.Place{{{Zone: "us-east-1a", ENIConfig: "a", Subnet: id}}},
	})
	require.Equal(t, "EC2 does not show it: does it exist?", refused[0].Reason)
}

func TestTheControllerReadsSoonerWhenItMattersAndFollowsNodeClaims(t *testing.T) {
	c, err := client.New(chartstest.StartAPIServer(t), client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	v, now := newVPC(t), clocktesting.NewFakeClock(time.Now())
	id := v.subnet("100.64.0.0/24")
	reader := v.reader(now)
	require.NoError(t, reader.Ensure(t.Context(), id))
	controller := podsubnet.NewController(podsubnet.Params{Client: c, Reader: reader, Clock: now})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- controller.Run(ctx) }()
	defer func() {
		stop()
		require.NoError(t, <-ended)
	}()
	reads := func() int { return v.calls.of("DescribeNetworkInterfaces") }
	awaitReads := func(n int) {
		t.Helper()
		require.Eventually(t, func() bool { return reads() == n && now.HasWaiters() }, time.Minute, time.Millisecond)
	}
	awaitReads(2) // Ensure's, and the first round
	now.Step(59 * time.Second)
	require.Equal(t, 2, reads())
	now.Step(time.Second)
	awaitReads(3)

	need := podcapacity.Need{Prefixes: 7, ENIs: 1}
	place := podnetwork.Place{Zone: "us-east-1a", ENIConfig: "a", Subnet: id}
	held, _ := reader.Ledger.Reserve(t.Context(), podnetwork.Request{Owner: "one", Need: need, Zones: [][]podnetwork.Place{{place}}})
	require.Len(t, held, 1)
	now.Step(time.Second) // a launch counts when it came after the last reading
	reader.Ledger.Keep(podnetwork.Kept{Owner: "one", Subnet: id, Instance: "i-1", Need: need})
	require.Eventually(t, func() bool {
		now.Step(time.Second)
		return reads() == 4
	}, time.Minute, 10*time.Millisecond, "seconds after a launch, not a minute")
	require.Less(t, now.Since(reader.Ledger.Snapshot(id).Read), 30*time.Second)

	t.Run("a NodeClaim's stamps are what counts, and when it is gone its room is free", func(t *testing.T) {
		claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: "two", Annotations: podnetwork.PlaceStamp(place, podcapacity.Need{Prefixes: 2, ENIs: 1})}}
		claim.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}
		claim.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{}
		require.NoError(t, c.Create(t.Context(), claim))
		claim.Status.ProviderID = "aws:///us-east-1a/i-2"
		require.NoError(t, c.Status().Update(t.Context(), claim))
		request := reconcile.Request{NamespacedName: client.ObjectKeyFromObject(claim)}
		_, err := controller.Reconcile(t.Context(), request)
		require.NoError(t, err)
		require.Equal(t, 8+3, reader.Ledger.Room(id).Aside.Blocks)
		require.Equal(t, map[string]float64{
			"dovetail_pod_subnet_prefixes": 14, "dovetail_pod_subnet_free_prefixes": 14, "dovetail_pod_subnet_free_addresses": 251, "dovetail_pod_subnet_fragmentation_percent": 10,
			"dovetail_pod_subnet_committed_prefixes": 11, "dovetail_pod_subnet_committed_addresses": 9*16 + 2,
		}, metrics(t, reader.Ledger))
		require.NoError(t, c.Delete(t.Context(), claim))
		_, err = controller.Reconcile(t.Context(), request)
		require.NoError(t, err)
		require.Equal(t, 8, reader.Ledger.Room(id).Aside.Blocks)
	})
}

// metrics but for the time of the reading.
func metrics(t *testing.T, ledger *podnetwork.Ledger) map[string]float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(podsubnet.Collector(ledger)))
	families, err := registry.Gather()
	require.NoError(t, err)
	values := map[string]float64{}
	for _, f := range families {
		values[f.GetName()] = f.GetMetric()[0].GetGauge().GetValue()
	}
	delete(values, "dovetail_pod_subnet_read_timestamp_seconds")
	return values
}

func TestMain(m *testing.M) {
	apis.Register(scheme.Scheme)
	m.Run()
}
