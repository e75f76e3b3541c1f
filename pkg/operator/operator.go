// SPDX-License-Identifier: Apache-2.0

// Package operator assembles Karpenter for AWS from karpenter-provider-aws's exported constructors, with Dovetail's
// parts in the seams between them. It takes the place of upstream's own NewOperator, which cannot be used and then
// changed: its launch template provider deletes templates that it sees expire.
//
// Flags and environment variables are upstream's, all of them.
package operator

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	awsarczonalshift "github.com/aws/aws-sdk-go-v2/service/arczonalshift"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	awscache "github.com/aws/karpenter-provider-aws/pkg/cache"
	awscloudprovider "github.com/aws/karpenter-provider-aws/pkg/cloudprovider"
	"github.com/aws/karpenter-provider-aws/pkg/cloudprovider/registrationhooks"
	awscontrollers "github.com/aws/karpenter-provider-aws/pkg/controllers"
	awsoperator "github.com/aws/karpenter-provider-aws/pkg/operator"
	"github.com/aws/karpenter-provider-aws/pkg/operator/options"
	"github.com/aws/karpenter-provider-aws/pkg/providers/arczonalshift"
	"github.com/aws/karpenter-provider-aws/pkg/providers/launchtemplate"
	"github.com/awslabs/operatorpkg/aws/middleware"
	"github.com/awslabs/operatorpkg/controller"
	awsprometheus "github.com/jonathan-innis/aws-sdk-go-prometheus/v2"
	"github.com/samber/lo"
	"sigs.k8s.io/controller-runtime/pkg/log"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	"sigs.k8s.io/karpenter/pkg/cloudprovider/metrics"
	"sigs.k8s.io/karpenter/pkg/cloudprovider/overlay"
	corecontrollers "sigs.k8s.io/karpenter/pkg/controllers"
	"sigs.k8s.io/karpenter/pkg/controllers/state"
	coreoperator "sigs.k8s.io/karpenter/pkg/operator"
	coreoptions "sigs.k8s.io/karpenter/pkg/operator/options"

	"github.com/dovetail-dev/dovetail/pkg/cloudprovider"
	"github.com/dovetail-dev/dovetail/pkg/controllers/enigarbage"
	"github.com/dovetail-dev/dovetail/pkg/controllers/nodemigration"
	"github.com/dovetail-dev/dovetail/pkg/controllers/pendingpods"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podsubnet"
	"github.com/dovetail-dev/dovetail/pkg/controllers/provisioning"
	"github.com/dovetail-dev/dovetail/pkg/controllers/securitygroups"
	"github.com/dovetail-dev/dovetail/pkg/launch"
)

// Operator is core's operator with Karpenter for AWS on pod networks in it.
type Operator struct {
	*coreoperator.Operator
	// CloudProvider launches nodes, and lists instance types, as the controllers do.
	CloudProvider *cloudprovider.CloudProvider
	// LaunchTemplates are upstream's, with pod ENIs in them where launches are static.
	LaunchTemplates launchtemplate.Provider
	// UnavailableOfferings is upstream's memory of missing capacity.
	UnavailableOfferings *awscache.UnavailableOfferings

	aws       clients
	providers *providers
}

// New connects to AWS and to the cluster, and reads what no controller can start without: instance types, their
// offerings and the control plane's version.
func New(ctx context.Context, core *coreoperator.Operator) (*Operator, error) {
	api, err := connect(ctx)
	if err != nil {
		return nil, err
	}
	network := launch.NetworksIn(core.GetClient())
	leads := leadsSince(ctx, core)
	p, err := newProviders(ctx, core, api, network, leads)
	if err != nil {
		return nil, err
	}
	if err := p.hydrate(ctx); err != nil {
		return nil, err
	}
	awsoperator.SetupIndexers(ctx, core.Manager)
	instanceTypes := launch.Lister{Provider: p.instanceType}
	return &Operator{
		Operator: core, aws: api, providers: p, LaunchTemplates: p.launchTemplate, UnavailableOfferings: p.unavailableOfferings,
		CloudProvider: &cloudprovider.CloudProvider{
			CloudProvider: awscloudprovider.New(launch.Listings{Provider: instanceTypes}, p.instance, core.EventRecorder, core.GetClient(), p.ami, p.securityGroup,
				p.capacityReservation, p.placementGroup, core.InstanceTypeStore, p.caBundle),
			Client:        core.GetClient(),
			InstanceTypes: instanceTypes,
			Network:       network,
			Recorder:      core.EventRecorder,
			PodSubnets:    p.podSubnets,
			LeadsSince:    leads,
		},
	}, nil
}

// Controllers returns core's, upstream's and Dovetail's own.
func (o *Operator) Controllers(ctx context.Context) []controller.Controller {
	if coreoptions.FromContext(ctx).FeatureGates.ReservedCapacity {
		ec2nodeclass.CapacityReservationsEnabled = true // upstream's switch, a package variable of its API
	}
	p := o.providers
	undecorated := metrics.Decorate(cloudprovider.Counted(o.CloudProvider))
	decorated := overlay.Decorate(undecorated, o.GetClient(), o.InstanceTypeStore)
	cluster := state.NewCluster(o.Clock, o.GetClient(), decorated)

	controllers := corecontrollers.NewControllers(ctx, o.Manager, o.Clock, o.GetClient(), o.EventRecorder, decorated, undecorated,
		cluster, o.InstanceTypeStore,
		corecontrollers.WithRegistrationHook(registrationhooks.NewPlacementGroupRegistrationHook(p.instance)))
	controllers = append(controllers, awscontrollers.NewControllers(ctx, o.Manager, o.aws.config, o.Clock, o.aws.ec2, o.GetClient(),
		o.EventRecorder, p.unavailableOfferings, p.ssmCache, p.validationCache, p.recreationCache, decorated, p.subnet,
		p.securityGroup, p.instanceProfile, p.instance, p.pricing, p.ami, p.launchTemplate, p.version, p.instanceType,
		p.capacityReservation, p.placementGroup, p.amiResolver, p.zonalShift, p.instanceStatus, p.caBundle)...)
	return append(controllers,
		podsubnet.NewController(podsubnet.Params{Client: o.GetClient(), Reader: p.podSubnets, Clock: o.Clock}),
		podnetwork.NewController(podnetwork.Params{
			Client: o.GetClient(), EC2: o.aws.ec2, PodSubnets: p.podSubnets, Recorder: o.EventRecorder, Clock: o.Clock, IPFamily: p.ipFamily,
			ReservedENIs: options.FromContext(ctx).ReservedENIs,
		}),
		pendingpods.NewController(pendingpods.Params{Client: o.GetClient(), Provider: o.CloudProvider, Recorder: o.EventRecorder, Clock: o.Clock}),
		enigarbage.NewController(enigarbage.Params{EC2: o.aws.ec2, Cluster: options.FromContext(ctx).ClusterName, Clock: o.Clock}),
		securitygroups.NewController(securitygroups.Params{
			Client: o.GetClient(), EC2: o.aws.ec2, Cluster: options.FromContext(ctx).ClusterName, Recorder: o.EventRecorder, Clock: o.Clock,
		}),
		provisioning.NewController(provisioning.Params{
			Client: o.GetClient(), EC2: o.aws.ec2, Cluster: options.FromContext(ctx).ClusterName, Recorder: o.EventRecorder, Clock: o.Clock,
		}),
		nodemigration.NewController(nodemigration.Params{
			Client: o.GetClient(), Reader: o.GetAPIReader(), EC2: o.aws.ec2, Recorder: o.EventRecorder, Clock: o.Clock,
		}),
	)
}

// leadsSince remembers when this replica was elected.
func leadsSince(ctx context.Context, core *coreoperator.Operator) func() time.Time {
	var since atomic.Pointer[time.Time]
	go func() {
		select {
		case <-core.Elected():
			since.Store(lo.ToPtr(core.Clock.Now()))
		case <-ctx.Done():
		}
	}()
	return func() time.Time {
		if t := since.Load(); t != nil {
			return *t
		}
		return core.Clock.Now() // elected this moment
	}
}

// clients of AWS, all from one configuration.
type clients struct {
	config aws.Config
	ec2    *ec2.Client
	eks    *eks.Client
}

func connect(ctx context.Context) (clients, error) {
	loaded, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(awsoperator.NewAWSSDKHTTPClient()))
	if err != nil {
		return clients{}, fmt.Errorf("loading the AWS configuration, %w", err)
	}
	cfg := awsprometheus.WithPrometheusMetrics(awsoperator.WithUserAgent(loaded), crmetrics.Registry)
	cfg.APIOptions = append(cfg.APIOptions, middleware.StructuredErrorHandler)
	if cfg.Region == "" {
		region, err := imds.NewFromConfig(cfg).GetRegion(ctx, nil)
		if err != nil {
			return clients{}, fmt.Errorf("finding the Region: set AWS_REGION or let the pod reach the instance metadata service, %w", err)
		}
		cfg.Region = region.Region
	}
	api := clients{config: cfg, ec2: ec2.NewFromConfig(cfg), eks: eks.NewFromConfig(cfg)}
	if err := awsoperator.CheckEC2Connectivity(ctx, api.ec2); err != nil {
		return clients{}, fmt.Errorf("reaching EC2 in %s, %w", cfg.Region, err)
	}
	log.FromContext(ctx).V(1).Info("connected to AWS", "region", cfg.Region)
	return api, nil
}

// zonalShift watches ARC zonal shift when the user asks for it.
func (c clients) zonalShift(ctx context.Context, core *coreoperator.Operator) (arczonalshift.Provider, error) {
	if !options.FromContext(ctx).EnableZonalShift {
		return arczonalshift.NewNoopProvider(), nil
	}
	api := awsarczonalshift.NewFromConfig(c.config)
	arn, err := awsoperator.ValidateZonalShiftEnablement(ctx, c.eks, api)
	if err != nil {
		return nil, fmt.Errorf("--enable-zonal-shift is set but cluster %s is not registered with ARC zonal shift, %w", options.FromContext(ctx).ClusterName, err)
	}
	return arczonalshift.NewProvider(api, core.Clock, arn), nil
}
