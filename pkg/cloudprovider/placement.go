// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/scheduling"
	"sigs.k8s.io/karpenter/pkg/utils/resources"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// allowed are the places that the claim may have its pods' addresses from, by zone. What names the ENIConfig of a node, in the
// order of aws-node, is respected where it stands on the claim already.
func allowed(network *v1alpha1.PodNetwork, claim *karpv1.NodeClaim) [][]podnetwork.Place {
	requirements := scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...)
	named := cmp.Or(claim.Labels[v1alpha1.LabelExternalENIConfig], claim.Annotations[v1alpha1.AnnotationENIConfig])
	byLabel := !podnetwork.NamedAfterZones(network)
	if byLabel {
		named = cmp.Or(named, claim.Labels[network.Spec.ENIConfigs.NodeLabel])
	}
	var zones [][]podnetwork.Place
	for _, zone := range launch.PlacesOf(network) {
		places := slices.DeleteFunc(zone, func(p podnetwork.Place) bool {
			return named != "" && p.ENIConfig != named || !requirements.Get(corev1.LabelTopologyZone).Has(p.Zone) ||
				!requirements.Get(v1alpha1.LabelENIConfig).Has(p.ENIConfig) ||
				byLabel && !requirements.Get(network.Spec.ENIConfigs.NodeLabel).Has(p.ENIConfig)
		})
		if len(places) > 0 {
			zones = append(zones, places)
		}
	}
	return zones
}

// attempts of a launch, each a set of zones that EC2 may choose from. Where zones name the ENIConfigs, it chooses from all of
// them at once. Otherwise a label on the node names the ENIConfig. It stands in the user data, and that is the same for all zones of a
// request: so there is one request a zone, the cheapest first, and among those of equal price the one with the most room.
func (c *CloudProvider) attempts(network *v1alpha1.PodNetwork, claim *karpv1.NodeClaim, group launch.Group, need podcapacity.Need) [][][]podnetwork.Place {
	prices := group.Prices
	var zones [][]podnetwork.Place
	for _, zone := range allowed(network, claim) {
		if _, offered := prices[zone[0].Zone]; offered {
			zones = append(zones, zone)
		}
	}
	if len(zones) == 0 {
		return nil
	}
	if podnetwork.NamedAfterZones(network) {
		return [][][]podnetwork.Place{zones}
	}
	attraction := func(zone []podnetwork.Place) (most int) {
		for _, p := range zone {
			most = max(most, c.PodSubnets.Ledger.Attraction(p.Subnet, need))
		}
		return most
	}
	slices.SortStableFunc(zones, func(a, b []podnetwork.Place) int {
		return cmp.Or(cmp.Compare(prices[a[0].Zone], prices[b[0].Zone]), cmp.Compare(attraction(b), attraction(a)))
	})
	return lo.Map(zones, func(zone []podnetwork.Place, _ int) [][]podnetwork.Place { return [][]podnetwork.Place{zone} })
}

// launchAt calls EC2 with the need set aside, and gives back what was not used.
func (c *CloudProvider) launchAt(ctx context.Context, network *v1alpha1.PodNetwork, option option, places []podnetwork.Place) (*karpv1.NodeClaim, error) {
	ledger, claim, hold := c.PodSubnets.Ledger, option.claim, lo.Ternary(option.singles, launch.HoldingSingles, launch.Holding)
	named := map[string]string{}
	if !podnetwork.NamedAfterZones(network) {
		named[v1alpha1.LabelENIConfig], named[network.Spec.ENIConfigs.NodeLabel] = places[0].ENIConfig, places[0].ENIConfig
		claim = claim.DeepCopy()
		claim.Labels = lo.Assign(claim.Labels, named)
	}
	ctx, outcome := launch.WithOutcome(hold(ctx, places, option.Names()))
	created, err := c.CloudProvider.Create(ctx, claim)
	switch {
	case err == nil:
	case doubtful(err):
		ledger.Doubt(claim.Name)
		return nil, err
	default:
		ledger.Release(claim.Name)
		return nil, err
	}
	created.Labels = lo.Assign(created.Labels, named, outcome.Labels)
	place, found := lo.Find(places, func(p podnetwork.Place) bool { return p.Zone == created.Labels[corev1.LabelTopologyZone] })
	if !found {
		ledger.Doubt(claim.Name)
		return nil, fmt.Errorf("an instance came in zone %q, where none was asked for", created.Labels[corev1.LabelTopologyZone])
	}
	need := launch.NeedOfNode(ctx, network, lo.Assign(claim.Labels, created.Labels))
	ledger.Keep(podnetwork.Kept{Owner: claim.Name, Subnet: place.Subnet, Instance: podnetwork.InstanceOf(created), Need: need})
	created.Annotations = lo.Assign(created.Annotations, podnetwork.Stamp(network, created), podnetwork.PlaceStamp(place, need))
	return created, nil
}

// doubtful tells that an error leaves open whether there is an instance: the answer was lost.
func doubtful(err error) bool {
	var unsent *smithyhttp.RequestSendError
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.As(err, &unsent)
}

// shortage says where the claim's pods could have addresses from, and why not: it is what a person reads who wonders why there is
// no node. "" when it is not for want of pod addresses.
func (c *CloudProvider) shortage(ctx context.Context, network *v1alpha1.PodNetwork, claim *karpv1.NodeClaim, types launch.Types) string {
	requirements := scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...)
	var least, leastSingles podcapacity.Need
	for _, it := range types.Usual {
		if !requirements.IsCompatible(it.Requirements, scheduling.AllowUndefinedWellKnownLabels) || !resources.Fits(claim.Spec.Resources.Requests, it.Allocatable()) {
			continue
		}
		least = lesser(least, launch.NeedOf(ctx, network, it))
		if singles, ok := launch.SinglesOf(ctx, network, it); ok && takesSingles(claim, requirements, singles) {
			leastSingles = lesser(leastSingles, singles.Need)
		}
	}
	zones := allowed(network, claim)
	switch {
	case least == podcapacity.Need{}:
		return ""
	case len(zones) == 0:
		return fmt.Sprintf("pod network %s has no usable ENIConfig that the NodeClaim allows: see the PodNetwork's conditions", network.Name)
	}
	var reasons []string
	for _, place := range slices.Concat(zones...) {
		room := c.PodSubnets.Ledger.Room(place.Subnet)
		if room.Fits(least) {
			continue
		}
		reason := fmt.Sprintf("%s: %s", place, room.Explain(least))
		if least.Prefixes > 0 && room.Refused == "" && room.Single() > 0 {
			switch {
			case !launch.FallsBack(network):
				reason += ", which aws-node does not give beside prefixes"
			case leastSingles == podcapacity.Need{}:
				reason += fmt.Sprintf(", which no instance type gives that the NodeClaim allows: see its pods and its requirements of %s and %s", v1alpha1.LabelMaxPods, v1alpha1.LabelPrefixDelegation)
			case !room.Fits(leastSingles):
				reason += fmt.Sprintf(", which are not enough for a node of them: %s", room.Explain(leastSingles))
			}
		}
		reasons = append(reasons, reason)
	}
	return strings.Join(reasons, "; ")
}

// lesser of two needs; one of nothing does not count.
func lesser(a, b podcapacity.Need) podcapacity.Need {
	if (a == podcapacity.Need{}) || (b != podcapacity.Need{} && b.Prefixes+b.Addresses < a.Prefixes+a.Addresses) {
		return b
	}
	return a
}
