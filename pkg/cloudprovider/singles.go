// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/samber/lo"
	corev1 "k8s.io/api/core/v1"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"
	"sigs.k8s.io/karpenter/pkg/events"
	"sigs.k8s.io/karpenter/pkg/scheduling"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/launch"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// ReasonSingleAddresses is the event on a NodeClaim whose node has single addresses, and so fewer pods, because its pod subnet has no
// /28s left.
const ReasonSingleAddresses = "LaunchedWithSingleAddresses"

var singlesLaunched = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "dovetail_single_address_fallbacks_total",
	Help: "Nodes launched with single addresses, and a lower max-pods, where a pod network of prefix delegation had no /28s left, by pod subnet.",
}, []string{"pod_network", "subnet"})

func init() { crmetrics.Registry.MustRegister(singlesLaunched) }

// shortages say of the pod subnets that a launch with single addresses may use why it is one.
func (c *CloudProvider) shortages(ctx context.Context, network *v1alpha1.PodNetwork, types launch.Types, option option, zones [][]podnetwork.Place) map[string]string {
	if !option.singles {
		return nil
	}
	usual := lo.Filter(types.Usual, func(it *cloudprovider.InstanceType, _ int) bool { return slices.Contains(option.Names(), it.Name) })
	need := launch.MostOf(ctx, network, usual)
	return lo.SliceToMap(slices.Concat(zones...), func(place podnetwork.Place) (string, string) {
		return place.Subnet, fmt.Sprintf("%s: %s", place, c.PodSubnets.Ledger.Room(place.Subnet).Explain(need))
	})
}

// tellSingles says on the NodeClaim that its node takes fewer pods than others of its kind, and why.
func (c *CloudProvider) tellSingles(network *v1alpha1.PodNetwork, types launch.Types, claim, created *karpv1.NodeClaim, shortages map[string]string) {
	subnet, instanceType := created.Annotations[v1alpha1.AnnotationLaunchedPodSubnet], created.Labels[corev1.LabelInstanceTypeStable]
	singlesLaunched.WithLabelValues(network.Name, subnet).Inc()
	usual, _ := lo.Find(types.Usual, func(it *cloudprovider.InstanceType) bool { return it.Name == instanceType })
	if usual == nil {
		return
	}
	c.Recorder.Publish(events.Event{
		InvolvedObject: claim, Type: corev1.EventTypeWarning, Reason: ReasonSingleAddresses,
		Message: fmt.Sprintf("Launched with single addresses in place of /28s, for %s pods instead of %d: %s",
			created.Labels[v1alpha1.LabelMaxPods], usual.Capacity.Pods().Value(), shortages[subnet]),
		DedupeValues: []string{string(claim.UID)},
	})
}

// takesSingles tells whether a claim allows nodes that an instance type makes with single addresses.
func takesSingles(claim *karpv1.NodeClaim, requirements scheduling.Requirements, singles launch.SingleAddresses) bool {
	return requirements.Get(v1alpha1.LabelMaxPods).Has(strconv.Itoa(singles.MaxPods)) &&
		requirements.Get(v1alpha1.LabelPrefixDelegation).Has(string(v1alpha1.Disabled)) &&
		claim.Spec.Resources.Requests.Pods().Value() <= int64(singles.MaxPods)
}
