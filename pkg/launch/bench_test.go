// SPDX-License-Identifier: Apache-2.0

package launch_test

import (
	"context"
	"fmt"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	awscache "github.com/aws/karpenter-provider-aws/pkg/cache"
	"github.com/aws/karpenter-provider-aws/pkg/providers/arczonalshift"
	"github.com/aws/karpenter-provider-aws/pkg/providers/capacityreservation"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype/offering"
	"github.com/aws/karpenter-provider-aws/pkg/providers/placementgroup"
	"github.com/aws/karpenter-provider-aws/pkg/providers/pricing"
	"github.com/aws/karpenter-provider-aws/pkg/providers/subnet"
	"github.com/patrickmn/go-cache"
	"github.com/stretchr/testify/require"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	coreoptions "sigs.k8s.io/karpenter/pkg/operator/options"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

var zones = []string{"us-east-1a", "us-east-1b", "us-east-1c"}

// newSimulator has no VPC: instance types and prices are enough.
func newSimulator(t testing.TB) *ec2.Client {
	t.Helper()
	server := httptest.NewServer(aws.New(aws.Options{}).Handler())
	t.Cleanup(server.Close)
	return ec2.New(ec2.Options{
		Region: "us-east-1", BaseEndpoint: awssdk.String(server.URL), Retryer: awssdk.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
}

// lister is upstream's instance type provider, with all that EC2 has and static prices.
func lister(ctx context.Context, t testing.TB, api *ec2.Client, resolver instancetype.Resolver, more ...offering.OfferingResolver) *instancetype.DefaultProvider {
	t.Helper()
	newCache := func() *cache.Cache { return cache.New(time.Hour, time.Hour) }
	p := instancetype.NewDefaultProvider(newCache(), newCache(), newCache(), api,
		subnet.NewDefaultProvider(api, newCache(), newCache()), pricing.NewDefaultProvider(nil, api, "us-east-1", true),
		capacityreservation.NewProvider(api, clock.RealClock{}, newCache(), newCache()), placementgroup.NewProvider(api, newCache(), newCache()),
		awscache.NewUnavailableOfferings(), resolver, arczonalshift.NewNoopProvider(), nil, more...)
	require.NoError(t, p.UpdateInstanceTypes(ctx))
	require.NoError(t, p.UpdateInstanceTypeOfferings(ctx))
	return p
}

// cacheReader gives copies, as the controller's cache does.
type cacheReader struct {
	client.Reader
	networks v1alpha1.PodNetworkList
}

func (c *cacheReader) List(_ context.Context, list client.ObjectList, _ ...client.ListOption) error {
	c.networks.DeepCopyInto(list.(*v1alpha1.PodNetworkList))
	return nil
}

// threeZones with so many ENIConfigs each, all of whose subnets are known and empty.
func threeZones(eniConfigs int) (*v1alpha1.PodNetwork, *podnetwork.Ledger) {
	n, l := network(), emptyLedger()
	n.Status.Zones = nil
	for i, zone := range zones {
		for j := range eniConfigs {
			name := zone
			if eniConfigs > 1 {
				name, n.Spec.ENIConfigs.NodeLabel = fmt.Sprint(zone, "-", j), v1alpha1.LabelENIConfig
			}
			s := podnetwork.NewSnapshot(fmt.Sprintf("subnet-%d%d", i, j), prefix(fmt.Sprintf("100.64.%d.0/19", 32*(3*j+i)%256)), nil, podnetwork.Reservations{}, time.Now())
			l.Observe(s)
			n.Status.Zones = append(n.Status.Zones, v1alpha1.ZoneStatus{Zone: zone, ENIConfig: name, Subnet: s.Subnet})
		}
	}
	return n, l
}

func prefix(cidr string) netip.Prefix { return netip.MustParsePrefix(cidr) }

func inThreeZones() *ec2nodeclass.EC2NodeClass {
	class := nodeClass(ec2nodeclass.AMIFamilyAL2023, nil)
	class.Status.Subnets = nil
	for i, zone := range zones {
		class.Status.Subnets = append(class.Status.Subnets, ec2nodeclass.Subnet{ID: "subnet-n" + zone, Zone: zone, ZoneID: fmt.Sprint("use1-az", i+1)})
	}
	return class
}

func BenchmarkListingAllInstanceTypes(b *testing.B) {
	ctx := coreoptions.ToContext(testContext(), &coreoptions.Options{})
	api, class := newSimulator(b), inThreeZones()
	run := func(name string, list func() instancetype.Provider) {
		b.Run(name, func(b *testing.B) {
			p := list()
			its, err := p.List(ctx, class)
			require.NoError(b, err)
			require.Greater(b, len(its), 1000)
			b.ReportAllocs()
			for b.Loop() {
				_, _ = p.List(ctx, class)
			}
		})
	}
	upstream := instancetype.NewDefaultResolver("us-east-1")
	run("upstream", func() instancetype.Provider { return lister(ctx, b, api, upstream) })
	for _, n := range []int{1, 3} {
		run(fmt.Sprint("ENIConfigs=", n), func() instancetype.Provider {
			pods, ledger := threeZones(n)
			in := launch.NetworksIn(&cacheReader{networks: v1alpha1.PodNetworkList{Items: []v1alpha1.PodNetwork{*pods}}})
			return launch.Lister{Provider: lister(ctx, b, api, launch.InstanceTypes{Upstream: upstream, Network: in}, launch.NewOfferings(in, ledger))}
		})
	}
	run("ENIConfigs=1, a zone without a /28", func() instancetype.Provider {
		pods, ledger := threeZones(1)
		ledger.Observe(scattered("subnet-00", "100.64.0.0/24"))
		in := launch.NetworksIn(&cacheReader{networks: v1alpha1.PodNetworkList{Items: []v1alpha1.PodNetwork{*pods}}})
		return launch.Lister{Provider: lister(ctx, b, api, launch.InstanceTypes{Upstream: upstream, Network: in}, launch.NewOfferings(in, ledger))}
	})
}
