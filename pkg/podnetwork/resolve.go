// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Subnet as EC2 describes it, with what lies in it.
type Subnet struct {
	ID, VPC, Zone string
	CIDR          netip.Prefix
	// PublicAddresses: instances launched into it get a public address (MapPublicIpOnLaunch).
	PublicAddresses bool
	// Capacity and Aside, what of it is set aside for nodes that do not hold it yet, of subnets that ENIConfigs name.
	Capacity Capacity
	Aside    Charge
}

// View is what the cluster and the VPC hold, as far as one PodNetwork is concerned.
type View struct {
	// IPv6: pods and Services of the cluster have IPv6 addresses.
	IPv6 bool
	// NodeClasses that the network selects.
	NodeClasses []ec2nodeclass.EC2NodeClass
	// ENIConfigs that the network selects.
	ENIConfigs []eniconfig.ENIConfig
	// Subnets by id: those that exist among the ones that node classes and ENIConfigs name.
	Subnets map[string]Subnet
	// SecurityGroups: the VPC of each that exists among those that ENIConfigs name.
	SecurityGroups map[string]string
	// Provisioning: spec.provision is at work, and ENIConfigs that are missing are on their way.
	Provisioning bool
}

// Reasons why a zone cannot take nodes.
const (
	ReasonIPv6Cluster           = "IPv6Cluster"
	ReasonNoNodeClass           = "NoNodeClass"
	ReasonENIConfigMissing      = "ENIConfigMissing"
	ReasonProvisioning          = "Provisioning" // nothing for a person to mend
	ReasonSubnetNotFound        = "SubnetNotFound"
	ReasonSubnetInOtherZone     = "SubnetInOtherZone"
	ReasonSubnetInOtherVPC      = "SubnetInOtherVPC"
	ReasonSecurityGroupNotFound = "SecurityGroupNotFound"
	ReasonSecurityGroupOtherVPC = "SecurityGroupInOtherVPC"
)

// Problem is one thing for a person to mend.
type Problem struct {
	// Condition that it makes false.
	Condition, Reason, Message string
	// ENIConfig at fault, "" when it is none.
	ENIConfig string
}

// Resolution of a PodNetwork. A problem in one place leaves the others usable.
type Resolution struct {
	Zones    []v1alpha1.ZoneStatus
	Problems []Problem
}

// Resolve finds the ENIConfigs that serve each zone of the node classes, and what is wrong with them.
func Resolve(network *v1alpha1.PodNetwork, view View) Resolution {
	r := &resolver{network: network, view: view}
	if view.IPv6 {
		r.problem(v1alpha1.ConditionENIConfigsReady, ReasonIPv6Cluster, "",
			"the pods of this cluster have IPv6 addresses, and a pod network is for IPv4: no node is launched on it; delete it (IPv6 pods need no other subnets), or use a cluster whose ipFamily is ipv4")
		return r.resolution
	}
	zones, vpc := r.nodeSubnets()
	if len(zones) == 0 {
		r.problem(v1alpha1.ConditionENIConfigsReady, ReasonNoNodeClass, "",
			"no EC2NodeClass with resolved subnets matches spec.nodeClassSelector: create one, or change the selector")
	}
	for _, zone := range zones {
		r.zone(zone, vpc)
	}
	return r.resolution
}

type resolver struct {
	network    *v1alpha1.PodNetwork
	view       View
	resolution Resolution
}

func (r *resolver) problem(condition, reason, eniConfig, format string, args ...any) {
	r.resolution.Problems = append(r.resolution.Problems,
		Problem{Condition: condition, Reason: reason, Message: fmt.Sprintf(format, args...), ENIConfig: eniConfig})
}

// nodeSubnets returns the zones in which the node classes launch, sorted, and their VPC.
func (r *resolver) nodeSubnets() (zones []string, vpc string) {
	seen := map[string]bool{}
	for _, nodeClass := range r.view.NodeClasses {
		for _, s := range nodeClass.Status.Subnets {
			seen[s.Zone] = true
			vpc = cmp.Or(vpc, r.view.Subnets[s.ID].VPC)
		}
	}
	return slices.Sorted(maps.Keys(seen)), vpc
}

func (r *resolver) zone(zone, vpc string) {
	serving := r.serving(zone)
	if len(serving) == 0 && r.view.Provisioning {
		r.problem(v1alpha1.ConditionENIConfigsReady, ReasonProvisioning, "",
			"zone %s: its pod subnet and ENIConfig are being made (see the condition %s); no node is launched there before", zone, v1alpha1.ConditionProvisioned)
		return
	}
	if len(serving) == 0 {
		r.problem(v1alpha1.ConditionENIConfigsReady, ReasonENIConfigMissing, "", "zone %s: %s; no node is launched there", zone, r.expected(zone))
		return
	}
	for _, config := range serving {
		if !r.usable(config, zone, vpc) {
			continue
		}
		subnet := r.view.Subnets[config.Spec.Subnet]
		capacity := subnet.Capacity
		r.resolution.Zones = append(r.resolution.Zones, v1alpha1.ZoneStatus{
			Zone: zone, ENIConfig: config.Name, Subnet: subnet.ID, CIDR: subnet.CIDR.String(),
			FreePrefixes: int32(capacity.FreePrefixes), FreeAddresses: int32(capacity.FreeAddresses), //nolint:gosec // at most 65,536
			Reserved: int32(capacity.Reserved), Fragmentation: int32(capacity.Fragmentation), //nolint:gosec // at most 65,536
			CommittedPrefixes: int32(subnet.Aside.Blocks), CommittedAddresses: int32(subnet.Aside.Addresses), //nolint:gosec // nodes times what one needs
		})
	}
}

// serving returns the ENIConfigs that a node in the zone may use. Named after zones, it is the one of that name, whether
// its subnet fits or not. Otherwise each ENIConfig serves the zone of its subnet, and the node's label chooses.
func (r *resolver) serving(zone string) []eniconfig.ENIConfig {
	byZone := NamedAfterZones(r.network)
	return slices.DeleteFunc(slices.Clone(r.view.ENIConfigs), func(config eniconfig.ENIConfig) bool {
		if !config.DeletionTimestamp.IsZero() {
			return true
		}
		if byZone {
			return config.Name != zone
		}
		return r.view.Subnets[config.Spec.Subnet].Zone != zone
	})
}

func (r *resolver) expected(zone string) string {
	names := make([]string, 0, len(r.view.ENIConfigs))
	for _, config := range r.view.ENIConfigs {
		names = append(names, config.Name)
	}
	slices.Sort(names)
	have := "there are none"
	if len(names) > 0 {
		have = "there are " + strings.Join(names, ", ")
	}
	if NamedAfterZones(r.network) {
		return fmt.Sprintf("no ENIConfig is named %s (%s)", zone, have)
	}
	return fmt.Sprintf("no ENIConfig has a subnet in it (%s)", have)
}

func (r *resolver) usable(config eniconfig.ENIConfig, zone, vpc string) bool {
	before := len(r.resolution.Problems)
	subnet, ok := r.view.Subnets[config.Spec.Subnet]
	switch {
	case !ok:
		r.problem(v1alpha1.ConditionSubnetsReady, ReasonSubnetNotFound, config.Name,
			"ENIConfig %s: no subnet %q with IPv4 addresses exists in this account and Region", config.Name, config.Spec.Subnet)
	case subnet.Zone != zone:
		r.problem(v1alpha1.ConditionSubnetsReady, ReasonSubnetInOtherZone, config.Name,
			"ENIConfig %s: subnet %s is in zone %s, and an ENI must be in its node's zone %s", config.Name, subnet.ID, subnet.Zone, zone)
	case vpc != "" && subnet.VPC != vpc:
		r.problem(v1alpha1.ConditionSubnetsReady, ReasonSubnetInOtherVPC, config.Name,
			"ENIConfig %s: subnet %s is in %s, the nodes are in %s", config.Name, subnet.ID, subnet.VPC, vpc)
	}
	for _, group := range config.Spec.SecurityGroups {
		switch owner, ok := r.view.SecurityGroups[group]; {
		case !ok:
			r.problem(v1alpha1.ConditionENIConfigsReady, ReasonSecurityGroupNotFound, config.Name,
				"ENIConfig %s: security group %s does not exist in this account and Region", config.Name, group)
		case vpc != "" && owner != vpc:
			r.problem(v1alpha1.ConditionENIConfigsReady, ReasonSecurityGroupOtherVPC, config.Name,
				"ENIConfig %s: security group %s is of %s, the nodes are in %s", config.Name, group, owner, vpc)
		}
	}
	return len(r.resolution.Problems) == before
}
