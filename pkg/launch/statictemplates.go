// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"fmt"
	"maps"
	"slices"

	"github.com/aws/karpenter-provider-aws/pkg/providers/amifamily"
	"github.com/aws/karpenter-provider-aws/pkg/providers/launchtemplate"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// maxTemplatesPerFleet is EC2's quota of launch templates in one fleet request.
const maxTemplatesPerFleet = 50

// staticTemplate is what a fleet's answer must be read with.
type staticTemplate struct{ nodeSubnet, podSubnet string }

// static returns a template for each zone, and one for all zones that cannot bring their pod ENIs along. Offerings, not
// overrides, keep them apart: upstream makes no override for a zone in which a template's instance types are not offered,
// and EC2 refuses a type and zone that is asked for twice.
func (r Templates) static(launch *staticLaunch, request templateRequest, instanceTypes []*cloudprovider.InstanceType, opts *amifamily.Options) ([]*amifamily.LaunchTemplate, error) {
	launch.places = launch.decideStatic(request.nodeClass, request.nodeClaim)
	templates, err := r.staticTemplates(launch, request, instanceTypes, opts)
	if err == nil && len(templates) > maxTemplatesPerFleet {
		launch.everywhere = &podnetwork.Obstacle{Reason: ReasonTooManyTemplates, Message: fmt.Sprintf(
			"the launch would need %d launch templates, and EC2 takes %d in a request: set spec.instanceTypes: Homogeneous on the PodNetwork, or narrow the NodePool's instance types", len(templates), maxTemplatesPerFleet)}
		launch.places = launch.decideStatic(request.nodeClass, request.nodeClaim)
		templates, err = r.staticTemplates(launch, request, instanceTypes, opts)
	}
	return templates, err
}

func dynamicLabels() map[string]string {
	return map[string]string{v1alpha1.LabelAllocation: string(v1alpha1.AllocationDynamic)}
}

func (r Templates) staticTemplates(launch *staticLaunch, request templateRequest, instanceTypes []*cloudprovider.InstanceType, opts *amifamily.Options) ([]*amifamily.LaunchTemplate, error) {
	var templates []*amifamily.LaunchTemplate
	dynamic := map[string]bool{}
	for _, zone := range slices.Sorted(maps.Keys(launch.places)) {
		p := launch.places[zone]
		if p.obstacle != nil {
			dynamic[zone] = true
			continue
		}
		here := request.offeredIn(instanceTypes, map[string]bool{zone: true})
		resolved, err := r.zonal(launch, request, p, zone, here, opts)
		if err != nil {
			return nil, err
		}
		templates = append(templates, resolved...)
	}
	if here := request.offeredIn(instanceTypes, dynamic); len(here) > 0 {
		own := *opts
		own.Labels = lo.Assign(opts.Labels, dynamicLabels())
		resolved, err := request.resolve(here, &own, kubeletKey)
		if err != nil {
			return nil, err
		}
		templates = append(templates, resolved...)
	}
	return templates, nil
}

// zonal returns the templates of one zone, with the pod ENIs.
func (r Templates) zonal(launch *staticLaunch, request templateRequest, p staticPlace, zone string, instanceTypes []*cloudprovider.InstanceType, opts *amifamily.Options) ([]*amifamily.LaunchTemplate, error) {
	own := *opts
	own.Labels = lo.Assign(opts.Labels, p.labels)
	own.AssociatePublicIPAddress = nil // false, or there were an obstacle: with two interfaces EC2 takes no word of it
	enis := func(it *cloudprovider.InstanceType) podENIs {
		return podENIsOf(it, launch.network.Spec.Addressing.PrefixDelegation != v1alpha1.Disabled)
	}
	resolved, err := request.resolve(instanceTypes, &own, func(it *cloudprovider.InstanceType) string { return fmt.Sprint(kubeletKey(it), enis(it)) })
	if err != nil {
		return nil, err
	}
	for _, t := range resolved {
		t.Zone = zone
		t.NetworkInterfaces = enis(t.InstanceTypes[0]).interfaces(p.nodeSubnet, p.podSubnet, p.podGroups)
		r.Launches.templates.SetDefault(launchtemplate.LaunchTemplateName(t), staticTemplate{nodeSubnet: p.nodeSubnet, podSubnet: p.podSubnet})
	}
	return resolved, nil
}

// offeredIn returns copies of the instance types that the launch can have in the zones, with their offerings there only.
// Without it a template would be made, and EC2 called, for a zone that the launch cannot use.
func (q templateRequest) offeredIn(instanceTypes []*cloudprovider.InstanceType, zones map[string]bool) []*cloudprovider.InstanceType {
	requirements := scheduling.NewNodeSelectorRequirementsWithMinValues(q.nodeClaim.Spec.Requirements...)
	requirements[karpv1.CapacityTypeLabelKey] = scheduling.NewRequirement(karpv1.CapacityTypeLabelKey, corev1.NodeSelectorOpIn, q.capacityType)
	return lo.FilterMap(instanceTypes, func(it *cloudprovider.InstanceType, _ int) (*cloudprovider.InstanceType, bool) {
		here := withOfferings(it, lo.Filter(it.Offerings, func(o *cloudprovider.Offering, _ int) bool { return zones[o.Zone()] }))
		return here, len(here.Offerings.Available().Compatible(requirements)) > 0
	})
}
