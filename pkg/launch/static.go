// SPDX-License-Identifier: Apache-2.0

package launch

import (
	"cmp"
	"fmt"
	"slices"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// Reasons of a launch itself to allocate dynamically; podnetwork has those of the node class and its subnets.
const (
	ReasonEFA              = "EFARequested"
	ReasonENIConfigMissing = podnetwork.ReasonENIConfigMissing
	ReasonTooManyTemplates = "TooManyLaunchTemplates"
	ReasonDynamicRequired  = "DynamicRequired"
)

// staticPlace is where the pod ENIs of a launch in one zone lie, or the obstacle to bringing them along.
type staticPlace struct {
	nodeSubnet string
	podSubnet  string
	podGroups  []string
	// labels that the node carries from its first moment: its allocation, and its ENIConfig where the launch chose it.
	labels   map[string]string
	obstacle *podnetwork.Obstacle
}

// decideStatic returns for each zone of the launch where its pod ENIs lie. A zone that cannot do what the NodeClaim requires is left
// out.
func (l *staticLaunch) decideStatic(nodeClass *ec2nodeclass.EC2NodeClass, claim *karpv1.NodeClaim) map[string]staticPlace {
	requirements := scheduling.NewNodeSelectorRequirementsWithMinValues(claim.Spec.Requirements...)
	places := map[string]staticPlace{}
	for zone, nodeSubnet := range l.nodeSubnets {
		p := staticPlace{nodeSubnet: nodeSubnet, labels: map[string]string{v1alpha1.LabelAllocation: string(v1alpha1.AllocationStatic)}}
		p.obstacle = cmp.Or(l.everywhere, podnetwork.StaticObstacle(l.network, nodeClass, nodeSubnet, l.publicAddresses[nodeSubnet]))
		if _, efa := claim.Spec.Resources.Requests[ec2nodeclass.ResourceEFA]; efa {
			p.obstacle = &podnetwork.Obstacle{Reason: ReasonEFA, Message: "the pods ask for " + string(ec2nodeclass.ResourceEFA) + ", whose interfaces take the place of the pod ENIs in the launch"}
		}
		status, named := l.eniConfigIn(zone, claim, requirements)
		switch {
		case p.obstacle != nil:
		case status == nil:
			p.obstacle = &podnetwork.Obstacle{Reason: ReasonENIConfigMissing, Message: fmt.Sprintf("zone %s has no usable ENIConfig for this node", zone)}
		default:
			p.podSubnet, p.podGroups = status.Subnet, l.securityGroups[status.ENIConfig]
			if !named {
				p.labels[l.network.Spec.ENIConfigs.NodeLabel] = status.ENIConfig
			}
		}
		if p.obstacle == nil && !requirements.Get(v1alpha1.LabelAllocation).Has(string(v1alpha1.AllocationStatic)) {
			p.obstacle = &podnetwork.Obstacle{Reason: ReasonDynamicRequired, Message: "the NodeClaim requires it"}
		}
		if p.obstacle != nil {
			p.labels = dynamicLabels()
		}
		if requirements.Get(v1alpha1.LabelAllocation).Has(p.labels[v1alpha1.LabelAllocation]) {
			places[zone] = p
		} else {
			l.refused = p.obstacle
		}
	}
	if len(places) > 0 {
		l.refused = nil
	}
	return places
}

// eniConfigIn chooses the zone's ENIConfig as the node's agent would, from its labels. Where they name none and the network
// does not go by zone, it is the one with most room among those that the NodeClaim allows; the node then needs its label. A launch
// that holds room has chosen before.
func (l *staticLaunch) eniConfigIn(zone string, claim *karpv1.NodeClaim, requirements scheduling.Requirements) (status *v1alpha1.ZoneStatus, named bool) {
	node := &metav1.ObjectMeta{Labels: lo.Assign(claim.Labels, map[string]string{corev1.LabelTopologyZone: zone})}
	inZone := lo.Filter(l.network.Status.Zones, func(z v1alpha1.ZoneStatus, _ int) bool { return z.Zone == zone && l.mayUse(z) })
	name := podnetwork.ENIConfigOf(l.network, node)
	if found, ok := lo.Find(inZone, func(z v1alpha1.ZoneStatus) bool { return z.ENIConfig == name }); ok {
		return &found, true
	}
	if name != v1alpha1.DefaultENIConfig { // a name that serves another zone, or none
		return nil, true
	}
	allowed := lo.Filter(inZone, func(z v1alpha1.ZoneStatus, _ int) bool {
		return requirements.Get(v1alpha1.LabelENIConfig).Has(z.ENIConfig)
	})
	if len(allowed) == 0 {
		return nil, false
	}
	most := slices.MaxFunc(allowed, func(a, b v1alpha1.ZoneStatus) int {
		return cmp.Or(cmp.Compare(a.FreePrefixes, b.FreePrefixes), cmp.Compare(a.FreeAddresses, b.FreeAddresses), cmp.Compare(b.ENIConfig, a.ENIConfig))
	})
	return &most, false
}

func (l *staticLaunch) mayUse(z v1alpha1.ZoneStatus) bool {
	return l.held == nil || slices.Contains(l.held.places, podnetwork.Place{Zone: z.Zone, ENIConfig: z.ENIConfig, Subnet: z.Subnet})
}

// groupsByName of the ENIConfigs' security groups.
func groupsByName(configs []eniconfig.ENIConfig) map[string][]string {
	return lo.SliceToMap(configs, func(c eniconfig.ENIConfig) (string, []string) { return c.Name, c.Spec.SecurityGroups })
}
