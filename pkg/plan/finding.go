// SPDX-License-Identifier: Apache-2.0

package plan

import (
	"cmp"
	"fmt"
	"slices"
)

// Severity of a Finding.
type Severity string

// Severities. A plan with harm is not to be applied as it is.
const (
	// Harm: pods would lose their network, or nodes could not be replaced.
	Harm Severity = "harm"
	// Warning: it works, with a loss that somebody should know.
	Warning Severity = "warning"
	// Info is good to know.
	Info Severity = "info"
)

var severities = []Severity{Harm, Warning, Info}

// Finding is one thing that a person should know before applying the PodNetwork.
type Finding struct {
	Severity Severity `json:"severity"`
	// Reason is like a condition's: one word for programs.
	Reason string `json:"reason"`
	What   string `json:"what"`
	Why    string `json:"why"`
	Fix    string `json:"fix,omitempty"`
}

// Reasons of findings. Those of podnetwork.Resolve stand for what it finds.
const (
	ReasonNotInstalled         = "NotInstalled"
	ReasonKarpenterMissing     = "KarpenterMissing"
	ReasonNodeClassConflict    = "NodeClassConflict"
	ReasonCIDROverlapsPeer     = "CIDROverlapsPeer"
	ReasonCIDROverlapsRoute    = "CIDROverlapsRoute"
	ReasonCIDROverlapsTransit  = "CIDROverlapsTransitGateway"
	ReasonCIDROverlapsServices = "CIDROverlapsServices"
	ReasonNoRouteToNAT         = "NoRouteToNAT"
	ReasonNoDefaultRoute       = "NoDefaultRoute"
	ReasonInsufficientCapacity = "InsufficientPodSubnets"
	ReasonNoRoomToReplace      = "NoRoomToReplace"
	ReasonSingleAddresses      = "SingleAddresses"
	ReasonFragmented           = "PodSubnetFragmented"
	ReasonNodeSubnetFull       = "NodeSubnetFull"
	ReasonNoInstanceType       = "NoInstanceType"
	ReasonTypesNotOffered      = "InstanceTypesNotOffered"
	ReasonFewerPods            = "FewerPodsPerNode"
	ReasonENIQuota             = "ENIQuota"
	ReasonCIDRQuota            = "CIDRQuota"
	ReasonVPCCNIMissing        = "VPCCNIMissing"
	ReasonVPCCNISettings       = "VPCCNISettingsDiffer"
	ReasonVPCCNIOnNodes        = "VPCCNIOnDovetailNodes"
	ReasonVPCCNINotOnNodes     = "VPCCNINotOnNodes"
	ReasonFargate              = "FargateLeftAlone"
	ReasonFargateTakes         = "FargateTakesPods"
	ReasonFargateInPodSubnet   = "FargateInPodSubnet"
	ReasonPermissionMissing    = "PermissionMissing"
	ReasonWindows              = "WindowsLeftAlone"
	ReasonOtherNodePools       = "NodePoolsLeftAlone"
	ReasonUnmanagedNodes       = "NodesNotOfKarpenter"
	ReasonStatic               = "StaticAllocationUnavailable"
)

// findings are kept in the order of their severity.
type findings []Finding

func (f *findings) add(severity Severity, reason, what, why, fix string) {
	found := Finding{Severity: severity, Reason: reason, What: what, Why: why, Fix: fix}
	if !slices.Contains(*f, found) {
		*f = append(*f, found)
	}
}

func (f findings) sorted() []Finding {
	slices.SortStableFunc(f, func(a, b Finding) int {
		return cmp.Compare(slices.Index(severities, a.Severity), slices.Index(severities, b.Severity))
	})
	return f
}

// counted is "1 node" or "3 nodes".
func counted(n int, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
