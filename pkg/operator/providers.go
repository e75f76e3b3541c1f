// SPDX-License-Identifier: Apache-2.0

package operator

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	awscache "github.com/aws/karpenter-provider-aws/pkg/cache"
	awsoperator "github.com/aws/karpenter-provider-aws/pkg/operator"
	"github.com/aws/karpenter-provider-aws/pkg/operator/options"
	"github.com/aws/karpenter-provider-aws/pkg/providers/amifamily"
	"github.com/aws/karpenter-provider-aws/pkg/providers/arczonalshift"
	"github.com/aws/karpenter-provider-aws/pkg/providers/capacityreservation"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instance"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instanceprofile"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancestatus"
	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	"github.com/aws/karpenter-provider-aws/pkg/providers/launchtemplate"
	"github.com/aws/karpenter-provider-aws/pkg/providers/placementgroup"
	"github.com/aws/karpenter-provider-aws/pkg/providers/pricing"
	"github.com/aws/karpenter-provider-aws/pkg/providers/securitygroup"
	awsssm "github.com/aws/karpenter-provider-aws/pkg/providers/ssm"
	"github.com/aws/karpenter-provider-aws/pkg/providers/subnet"
	"github.com/aws/karpenter-provider-aws/pkg/providers/version"
	"github.com/patrickmn/go-cache"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/log"
	coreoperator "sigs.k8s.io/karpenter/pkg/operator"

	podnetworks "github.com/dovetail-dev/dovetail/pkg/controllers/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podsubnet"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// providers are upstream's, one of each: several would keep several truths about one account.
type providers struct {
	unavailableOfferings                       *awscache.UnavailableOfferings
	ssmCache, validationCache, recreationCache *cache.Cache

	subnet              subnet.Provider
	securityGroup       securitygroup.Provider
	instanceProfile     instanceprofile.Provider
	ami                 amifamily.Provider
	amiResolver         amifamily.Resolver
	launchTemplate      launchtemplate.Provider
	pricing             pricing.Provider
	version             *version.DefaultProvider
	instanceType        *instancetype.DefaultProvider
	instance            instance.Provider
	instanceStatus      instancestatus.Provider
	capacityReservation capacityreservation.Provider
	placementGroup      placementgroup.Provider
	zonalShift          arczonalshift.Provider
	caBundle            *string
	podSubnets          *podsubnet.Reader
	ipFamily            corev1.IPFamily
}

func newProviders(ctx context.Context, core *coreoperator.Operator, api clients, network launch.NetworkOf, leadsSince func() time.Time) (*providers, error) {
	endpoint, err := awsoperator.ResolveClusterEndpoint(ctx, api.eks)
	if err != nil {
		return nil, fmt.Errorf("set --cluster-endpoint or allow eks:DescribeCluster, %w", err)
	}
	dnsIP, err := awsoperator.KubeDNSIP(ctx, core.KubernetesInterface)
	if err != nil { // clusters with a DNS of their own have no kube-dns service
		log.FromContext(ctx).V(1).Info("no address of the kube-dns service", "reason", err.Error())
	}
	caBundle, err := awsoperator.GetCABundle(ctx, core.GetConfig())
	if err != nil {
		return nil, fmt.Errorf("finding the cluster's CA bundle, %w", err)
	}
	p := &providers{
		unavailableOfferings: awscache.NewUnavailableOfferings(),
		ssmCache:             newCache(awscache.SSMCacheTTL),
		validationCache:      newCache(awscache.ValidationTTL),
		recreationCache:      newCache(awscache.RecreationTTL),
		caBundle:             caBundle,
		podSubnets:           &podsubnet.Reader{EC2: api.ec2, Ledger: podnetwork.NewLedger(core.Clock), Clock: core.Clock},
	}
	if p.ipFamily, err = podnetworks.ClusterFamily(ctx, core.KubernetesInterface); err != nil {
		return nil, err
	}
	if p.zonalShift, err = api.zonalShift(ctx, core); err != nil {
		return nil, err
	}
	refresh := options.FromContext(ctx).SubnetRefreshInterval
	// The free-address cache outlives a refresh of the subnets by as much as upstream's own defaults have it.
	freeAddressTTL := max(awscache.AvailableIPAddressTTL, refresh+(awscache.AvailableIPAddressTTL-awscache.DefaultTTL))
	launches := launch.NewLaunches()
	launching := launch.EC2{
		EC2API: api.ec2, Launches: launches, Cluster: options.FromContext(ctx).ClusterName,
		Tokens: launch.NewTokens(leadsSince, core.Clock), PodSubnetFull: p.podSubnets.Ledger.MarkRefused,
	}
	p.subnet = launch.Subnets{Provider: subnet.NewDefaultProvider(api.ec2, newCache(refresh), newCache(freeAddressTTL)), Launches: launches}
	p.securityGroup = securitygroup.NewDefaultProvider(api.ec2, newCache(awscache.DefaultTTL))
	p.instanceProfile = instanceprofile.NewDefaultProvider(iam.NewFromConfig(api.config), newCache(awscache.InstanceProfileTTL),
		newCache(awscache.DefaultCleanupInterval), newCache(awscache.ProtectedProfilesTTL), api.config.Region)
	p.pricing = pricing.NewDefaultProvider(pricing.NewAPI(api.config), api.ec2, api.config.Region, options.FromContext(ctx).IsolatedVPC)
	p.version = version.NewDefaultProvider(core.KubernetesInterface, api.eks)
	// AMIs of a node class depend on the cluster's version, so it comes before the first of them is resolved.
	if err := p.version.UpdateVersion(ctx); err != nil {
		return nil, fmt.Errorf("reading the control plane's version, %w", err)
	}
	p.ami = amifamily.NewDefaultProvider(core.Clock, p.version, awsssm.NewDefaultProvider(ssm.NewFromConfig(api.config), p.ssmCache),
		api.ec2, newCache(options.FromContext(ctx).AMIRefreshInterval))
	p.amiResolver = launch.Templates{Upstream: amifamily.NewDefaultResolver(api.config.Region), Launches: launches}
	p.placementGroup = placementgroup.NewProvider(api.ec2, newCache(awscache.DefaultTTL), newCache(awscache.PlacementGroupAvailabilityTTL))
	p.capacityReservation = capacityreservation.NewProvider(api.ec2, core.Clock, newCache(awscache.DefaultTTL), newCache(awscache.CapacityReservationAvailabilityTTL))
	p.launchTemplate = launchtemplate.NewDefaultProvider(ctx, newCache(awscache.DefaultTTL), launching, api.eks, p.amiResolver, p.securityGroup,
		p.subnet, p.placementGroup, caBundle, core.Elected(), dnsIP, endpoint)
	p.instanceType = instancetype.NewDefaultProvider(newCache(awscache.InstanceTypesZonesAndOfferingsTTL), newCache(awscache.InstanceTypesZonesAndOfferingsTTL),
		newCache(awscache.DiscoveredCapacityCacheTTL), api.ec2, p.subnet, p.pricing, p.capacityReservation, p.placementGroup, p.unavailableOfferings,
		launch.InstanceTypes{Upstream: instancetype.NewDefaultResolver(api.config.Region), Network: network}, p.zonalShift, core.GetClient(),
		launch.NewOfferings(network, p.podSubnets.Ledger))
	// Instances stay in this cache for ever: upstream's garbage collection refreshes it, and a zonal shift reads from it.
	p.instance = launch.Instances{
		Provider: instance.NewDefaultProvider(ctx, api.config.Region, core.EventRecorder, launching, p.unavailableOfferings, p.subnet, p.launchTemplate,
			p.capacityReservation, p.placementGroup, p.zonalShift, cache.New(cache.NoExpiration, cache.NoExpiration)),
		Launches: launches, Network: network, Client: core.GetClient(), Subnets: p.subnet, Recorder: core.EventRecorder,
	}
	p.instanceStatus = instancestatus.NewDefaultProvider(api.ec2, core.Clock)
	return p, nil
}

// hydrate reads what controllers cannot start without. Controllers refresh it from then on.
func (p *providers) hydrate(ctx context.Context) error {
	if err := p.instanceType.UpdateInstanceTypes(ctx); err != nil {
		return fmt.Errorf("reading instance types, %w", err)
	}
	if err := p.instanceType.UpdateInstanceTypeOfferings(ctx); err != nil {
		return fmt.Errorf("reading instance type offerings, %w", err)
	}
	return nil
}

func newCache(ttl time.Duration) *cache.Cache { return cache.New(ttl, awscache.DefaultCleanupInterval) }
