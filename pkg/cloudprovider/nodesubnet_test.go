// SPDX-License-Identifier: Apache-2.0

package cloudprovider_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Upstream subtracts a node's max-pods from its subnet while the launch is under way: it would see a /24 full after two nodes.
func TestANodeSubnetServesAsManyNodesAsItHasAddresses(t *testing.T) {
	const addresses = 251 // of a /24: AWS keeps five
	r := newRegion(t, chartstest.StartAPIServer(t))
	r.podSubnet("us-east-1a", "us-east-1a", "100.64.0.0/17")
	p := r.controller(time.Now().Add(-time.Minute))
	launched := r.launch(p, r.claims(addresses+9, karpv1.NodeSelectorRequirementWithMinValues{
		Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"us-east-1a"},
	}))
	require.Len(t, launched, addresses)
	for _, created := range launched {
		require.Equal(t, "110", created.Labels[v1alpha1.LabelMaxPods])
	}
	require.Len(t, r.cloud.Snapshot().Instances, addresses)
}
