// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"fmt"
	"strings"

	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
)

// needFormat of v1alpha1.AnnotationLaunchedNeed.
const needFormat = "prefixes=%d,addresses=%d,enis=%d"

// PlaceStamp says on a NodeClaim where its node's pods have their addresses from, and what is set aside for it there.
func PlaceStamp(place Place, need podcapacity.Need) map[string]string {
	return map[string]string{
		v1alpha1.AnnotationLaunchedENIConfig: place.ENIConfig,
		v1alpha1.AnnotationLaunchedPodSubnet: place.Subnet,
		v1alpha1.AnnotationLaunchedNeed:      fmt.Sprintf(needFormat, need.Prefixes, need.Addresses, need.ENIs),
	}
}

// Recall tells the ledger what a launched NodeClaim's stamps say. Of one that is not launched or has no stamps they say nothing,
// and it returns false.
func Recall(ledger *Ledger, claim *karpv1.NodeClaim) bool {
	subnet, instance := claim.Annotations[v1alpha1.AnnotationLaunchedPodSubnet], InstanceOf(claim)
	need, ok := stampedNeed(claim.Annotations[v1alpha1.AnnotationLaunchedNeed])
	if !ok || subnet == "" || instance == "" {
		return false
	}
	ledger.Stamped(claim.Name, subnet, need, instance)
	return true
}

// most that a subnet has of anything: AWS takes none larger than a /16. Beyond it, and below zero, numbers are nobody's that the
// controller wrote, and sums of them would make room where there is none.
const most = 1 << 16

func stampedNeed(stamp string) (need podcapacity.Need, ok bool) {
	_, err := fmt.Sscanf(stamp, needFormat, &need.Prefixes, &need.Addresses, &need.ENIs)
	return need, err == nil && min(need.Prefixes, need.Addresses, need.ENIs) >= 0 && max(need.Prefixes, need.Addresses, need.ENIs) <= most
}

// InstanceOf a NodeClaim: the last part of its provider id, as in aws:///us-east-1a/i-0123456789abcdef0. "" where there is none.
func InstanceOf(claim *karpv1.NodeClaim) string {
	id := claim.Status.ProviderID
	return id[strings.LastIndexByte(id, '/')+1:]
}
