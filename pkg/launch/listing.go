// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"context"
	"time"

	"github.com/aws/karpenter-provider-aws/pkg/providers/instancetype"
	"github.com/samber/lo"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// listingTTL bounds the age of a listing that a launch still uses: upstream's Create decides from one that is as old as what it does
// after it. An older one is made anew, as after a wait for room, or when an earlier fleet had no capacity.
const listingTTL = time.Second

type listingKey struct{}

// listing that a launch has chosen its instance types from.
type listing struct {
	instanceTypes cloudprovider.InstanceTypes
	made          time.Time
}

// FromListing spares the launch of a group with this context another listing: upstream's Create makes one, of all instance types, in
// which the group's would be found again.
func FromListing(ctx context.Context, instanceTypes cloudprovider.InstanceTypes, made time.Time) context.Context {
	return context.WithValue(ctx, listingKey{}, &listing{instanceTypes, made})
}

// Listings is upstream's instance type provider, for its CloudProvider.
type Listings struct {
	instancetype.Provider
}

// List gives a launch that holds room its own instance types, with those offerings that are in the places that it holds.
func (l Listings) List(ctx context.Context, nodeClass instancetype.NodeClass) ([]*cloudprovider.InstanceType, error) {
	from, _ := ctx.Value(listingKey{}).(*listing)
	if held := holding(ctx); held != nil && from != nil && time.Since(from.made) < listingTTL {
		return from.in(held.places), nil
	}
	return l.Provider.List(ctx, nodeClass)
}

// in the places.
func (l *listing) in(places []podnetwork.Place) []*cloudprovider.InstanceType {
	type spot struct{ zone, eniConfig string }
	held := map[spot]bool{}
	for _, p := range places {
		held[spot{p.Zone, p.ENIConfig}] = true
	}
	return lo.FilterMap(l.instanceTypes, func(it *cloudprovider.InstanceType, _ int) (*cloudprovider.InstanceType, bool) {
		here := lo.Filter(it.Offerings, func(o *cloudprovider.Offering, _ int) bool {
			return held[spot{o.Zone(), o.Requirements.Get(v1alpha1.LabelENIConfig).Any()}]
		})
		return withOfferings(it, here), len(here) > 0
	})
}
