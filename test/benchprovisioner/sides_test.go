// SPDX-License-Identifier: Apache-2.0

package benchprovisioner

import (
	"context"
	"testing"

	awscache "github.com/aws/karpenter-provider-aws/pkg/cache"
	awscloudprovider "github.com/aws/karpenter-provider-aws/pkg/cloudprovider"
	awsoperator "github.com/aws/karpenter-provider-aws/pkg/operator"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	core "sigs.k8s.io/karpenter/pkg/cloudprovider"
	coreoperator "sigs.k8s.io/karpenter/pkg/operator"

	"github.com/dovetail-dev/dovetail/pkg/cloudprovider"
	"github.com/dovetail-dev/dovetail/pkg/operator"
)

// side is one of the two that are compared: providers as their controller assembles them, with caches that are theirs.
type side struct {
	ctx           context.Context
	operator      *coreoperator.Operator
	cloudProvider core.CloudProvider
	unavailable   *awscache.UnavailableOfferings
	door          *door
	own           *cloudprovider.CloudProvider // nil: upstream's
}

// newSide runs core's manager, whose cache the providers read, and no controllers.
func newSide(t *testing.T, a *account, assemble func(context.Context, *coreoperator.Operator, *side)) *side {
	t.Helper()
	s := &side{door: a.serve(t)}
	t.Setenv("AWS_ENDPOINT_URL", s.door.url)
	crmetrics.Registry = prometheus.NewRegistry() // each process has its own
	ctx, core := coreoperator.NewOperator()
	ctx, stop := context.WithCancel(ctx)
	s.ctx, s.operator = ctx, core
	assemble(ctx, core, s)
	done := make(chan struct{})
	go func() {
		defer close(done)
		core.Start(ctx)
	}()
	t.Cleanup(func() {
		stop()
		<-done
	})
	<-core.Elected()
	return s
}

func newUpstream(t *testing.T, a *account) *side {
	return newSide(t, a, func(ctx context.Context, core *coreoperator.Operator, s *side) {
		_, op := awsoperator.NewOperator(ctx, core)
		require.NoError(t, op.LaunchTemplateProvider.ResolveClusterCIDR(ctx))
		s.cloudProvider = awscloudprovider.New(op.InstanceTypesProvider, op.InstanceProvider, op.EventRecorder, op.GetClient(), op.AMIProvider,
			op.SecurityGroupProvider, op.CapacityReservationProvider, op.PlacementGroupProvider, op.InstanceTypeStore, op.CABundle)
		s.unavailable = op.UnavailableOfferingsCache
	})
}

func newDovetail(t *testing.T, a *account) *side {
	return newSide(t, a, func(ctx context.Context, core *coreoperator.Operator, s *side) {
		op, err := operator.New(ctx, core)
		require.NoError(t, err)
		require.NoError(t, op.LaunchTemplates.ResolveClusterCIDR(ctx))
		s.own, s.cloudProvider, s.unavailable = op.CloudProvider, op.CloudProvider, op.UnavailableOfferings
	})
}

// contender is a side with a node class.
type contender struct {
	*side
	class, name string
}

// contenders are upstream, whose figures the others' are compared with, and Dovetail with the node classes.
func (w *world) contenders(classes ...string) []contender {
	all := []contender{{w.upstream, withoutNetwork, "upstream"}}
	for _, class := range classes {
		all = append(all, contender{w.dovetail, class, describe(class)})
	}
	return all
}
