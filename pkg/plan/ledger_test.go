// SPDX-License-Identifier: Apache-2.0

package plan_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/samber/lo"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	clocktesting "k8s.io/utils/clock/testing"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/plan"
	"github.com/dovetail-dev/dovetail/pkg/podcapacity"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

// What the launch ledger sets aside for nodes of the same instance types, in whatever settings, is never more than the plan said.
func TestThePlansNeedIsNeverBelowWhatLaunchesSetAside(t *testing.T) {
	random := rand.New(rand.NewPCG(6, 2))
	names := []string{"m5.large", "m4.large", "c7g.medium", "t3.small", "m5.4xlarge", "m5.metal", "c5.xlarge"}
	for round := range 60 {
		f := good()
		f.InstanceTypes = types(names...)
		f.pool().Spec.Template.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: names}}
		spec := &f.Network.Spec
		spec.Addressing.PrefixDelegation = lo.Sample([]v1alpha1.Toggle{v1alpha1.Enabled, v1alpha1.Disabled})
		spec.Addressing.Allocation = lo.Sample([]v1alpha1.Allocation{v1alpha1.AllocationDynamic, v1alpha1.AllocationStatic})
		spec.MaxPods.Policy = lo.Sample([]v1alpha1.MaxPodsPolicy{v1alpha1.MaxPodsRecommended, v1alpha1.MaxPodsMaximum})
		f.ReservedENIs = random.IntN(2)
		if spec.Addressing.Allocation == v1alpha1.AllocationDynamic {
			spec.Agent = lo.Sample([]v1alpha1.AgentKind{v1alpha1.AgentDovetail, v1alpha1.AgentVPCCNI})
		}
		const subnet, zone = "subnet-pods-us-east-1a", "us-east-1a"
		f.addSubnet(subnet, zone, "100.64.0.0/16")
		f.Nodes = nil
		ledger := podnetwork.NewLedger(clocktesting.NewFakeClock(metav1.Now().Time))
		ledger.Observe(f.Snapshots[subnet])
		for i := range random.IntN(20) {
			name := names[random.IntN(len(names))]
			info, _ := instancetypes.Info(name)
			g := podcapacity.GeometryOf(info)
			prefixes := spec.Addressing.PrefixDelegation != v1alpha1.Disabled
			result := podcapacity.Compute(g, podcapacity.Policy{
				CustomNetworking: true, PrefixDelegation: prefixes, ReservedENIs: f.ReservedENIs, Uncapped: spec.MaxPods.Policy == v1alpha1.MaxPodsMaximum,
			})
			if result.MaxPods == 0 {
				continue // it is not launched
			}
			f.Nodes = append(f.Nodes, plan.Node{Name: fmt.Sprint(i), Zone: zone, InstanceType: name, Instance: fmt.Sprint("i-", i), NodePool: "default"})
			need := podcapacity.NodeNeed{
				MaxPods: result.MaxPods, PodENIs: result.PodENIs, IPsPerENI: g.IPsPerENI, Prefixes: prefixes && g.PrefixCapable,
				Static: spec.Addressing.Allocation == v1alpha1.AllocationStatic, WholeENIs: spec.Agent == v1alpha1.AgentVPCCNI,
			}.Most()
			claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprint("claim-", i), Annotations: podnetwork.PlaceStamp(podnetwork.Place{Zone: zone, Subnet: subnet}, need)}}
			claim.Status.ProviderID = "aws:///" + zone + "/" + fmt.Sprint("i-", i)
			require.True(t, podnetwork.Recall(ledger, claim))
		}
		report := plan.Make(f.Facts)
		aside := ledger.Room(subnet).Aside
		require.GreaterOrEqual(t, report.Zones[0].Need.Prefixes, aside.Blocks, "round %d: %+v", round, spec)
		require.GreaterOrEqual(t, report.Zones[0].Need.Addresses, aside.Addresses, "round %d: %+v", round, spec)
	}
}
