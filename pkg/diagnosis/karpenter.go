// SPDX-License-Identifier: Apache-2.0

package diagnosis

import (
	"fmt"
	"slices"
	"strings"

	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
)

const (
	// failedScheduling is the event of kube-scheduler, and of Karpenter, on a pod that gets no node.
	failedScheduling = "FailedScheduling"
	// requestLimitExceeded is the reason on a NodeClaim whose launch EC2 throttles (karpenter-provider-aws, pkg/errors, ToReasonMessage).
	requestLimitExceeded = "RequestLimitExceeded"
)

// limitWords are how Karpenter says that a NodePool's limits forbid another node (pkg/controllers/provisioning/scheduling, addToNewNodeClaim).
// It says so in events only, and gives no reason of its own: how large a node would be, nobody else knows.
var limitWords = []string{"exceed limits for nodepool", "node limits have been exhausted for nodepool"}

// exhausted tells whether an event of Karpenter's names a pool as one whose limits are reached. Each pool's error is on its own,
// after a semicolon, with the pool's name in it.
func exhausted(message, pool string) bool {
	return slices.ContainsFunc(strings.Split(message, ";"), func(part string) bool {
		named := slices.Contains(strings.FieldsFunc(part, func(r rune) bool { return strings.ContainsRune(" \t\n=(){}[]\",:/", r) }), pool)
		return named && slices.ContainsFunc(limitWords, func(words string) bool { return strings.Contains(part, words) })
	})
}

// offeringWords are how Karpenter says that no instance type of a NodePool is left for a pod (pkg/controllers/provisioning/scheduling,
// InstanceTypeFilterError): none that is large enough and that EC2 has not refused for want of capacity in the last three minutes.
const offeringWords = "had a required offering"

// noOffering tells whether an event of Karpenter's says that of a pool.
func noOffering(message, pool string) bool {
	return slices.ContainsFunc(strings.Split(message, ";"), func(part string) bool {
		return strings.Contains(part, offeringWords) && strings.Contains(part, karpv1.NodePoolLabelKey+" In ["+pool+"]")
	})
}

// limits of a pool, and how much of each is used.
func limits(pool *karpv1.NodePool) string {
	var text []string
	for name, limit := range pool.Spec.Limits {
		used := pool.Status.Resources[name]
		text = append(text, fmt.Sprintf("%s is %s and %s is used", name, limit.String(), used.String()))
	}
	slices.Sort(text)
	return strings.Join(text, ", ")
}
