// SPDX-License-Identifier: Apache-2.0

package podnetwork_test

import (
	"testing"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/awslabs/operatorpkg/status"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podnetwork"
	podnet "github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

// refusal of a PodNetwork, by default of the one named default.
type refusal struct {
	cause   func(*world)
	network string
	reason  string
	// advice in the condition.
	advice string
	// zones that nodes are launched in all the same.
	zones []string
}

// inZoneB changes the ENIConfig of zone us-east-1b.
func inZoneB(change func(*eniconfig.ENIConfigSpec)) func(*world) {
	return func(w *world) { w.updateENIConfig("us-east-1b", change) }
}

var (
	otherZones = []string{"us-east-1a", "us-east-1c"}
	refusals   = map[string]refusal{
		"an IPv6 cluster": {
			cause: func(w *world) { w.family = corev1.IPv6Protocol }, reason: "IPv6Cluster",
			advice: "delete it (IPv6 pods need no other subnets), or use a cluster whose ipFamily is ipv4",
		},
		"two PodNetworks on one node class": {
			cause:   func(w *world) { w.create(&v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "second"}}) },
			network: "second", reason: "NodeClassConflict", advice: "default, the oldest, serves it; change spec.nodeClassSelector of the others",
		},
		"a subnet in another zone": {
			cause: inZoneB(func(s *eniconfig.ENIConfigSpec) { s.Subnet = zones[0].podSubnet }), reason: "SubnetInOtherZone",
			advice: "subnet " + zones[0].podSubnet + " is in zone us-east-1a, and an ENI must be in its node's zone us-east-1b", zones: otherZones,
		},
		"a subnet in another VPC": {
			cause: inZoneB(func(s *eniconfig.ENIConfigSpec) { s.Subnet = foreignSubnet }), reason: "SubnetInOtherVPC",
			advice: "subnet " + foreignSubnet + " is in " + otherVPC + ", the nodes are in " + vpcID, zones: otherZones,
		},
		"a security group of another VPC": {
			cause: inZoneB(func(s *eniconfig.ENIConfigSpec) { s.SecurityGroups = []string{foreignGroup} }), reason: "SecurityGroupInOtherVPC",
			advice: "security group " + foreignGroup + " is of " + otherVPC + ", the nodes are in " + vpcID, zones: otherZones,
		},
	}
)

func testRefusal(w *world, r refusal) {
	outdated := w.nodeClaim("outdated", "us-east-1b", "node-1", stamp("0123456789abcdef"))
	r.cause(w)
	for _, name := range []string{"default", "second", "default", "second"} {
		if r.network == name || name == "default" {
			w.reconcile(name)
		}
	}
	if r.network == "" {
		r.network = "default"
	}
	network := w.network(r.network)
	requireCondition(w, network, status.ConditionReady, metav1.ConditionFalse, r.reason)
	require.Contains(w, network.StatusConditions().Root().Message, r.advice)
	w.requireEvent("PodNetwork", r.network, r.reason, network.StatusConditions().Root().Message)

	nodeClass := &ec2nodeclass.EC2NodeClass{}
	require.NoError(w, w.Get(w.Context(), client.ObjectKey{Name: "default"}, nodeClass))
	serving, err := podnet.ForNodeClass(w.Context(), w.Client, nodeClass)
	require.NoError(w, err)
	require.Equal(w, "default", serving.Name)
	if r.network == serving.Name {
		require.Equal(w, r.zones, append([]string(nil), zoneNames(network)...), "launches read the zones from there")
	}
	require.False(w, podnet.Settled(serving), "a node drifts only from a network that is")
	require.NoError(w, w.Get(w.Context(), client.ObjectKeyFromObject(outdated), outdated))
	require.Empty(w, outdated.Annotations[v1alpha1.AnnotationDriftVerdict])
}

func TestTheClustersAddressFamilyIsReadFromTheCluster(t *testing.T) {
	for family, start := range map[corev1.IPFamily]func(testing.TB) *rest.Config{
		corev1.IPv4Protocol: controlplanetest.Start, corev1.IPv6Protocol: controlplanetest.StartIPv6,
	} {
		cluster := kubernetes.NewForConfigOrDie(start(t))
		require.EventuallyWithT(t, func(c *assert.CollectT) { // an API server makes the Service when it has started
			found, err := podnetwork.ClusterFamily(t.Context(), cluster)
			require.NoError(c, err)
			require.Equal(c, family, found)
		}, time.Minute, 50*time.Millisecond)
	}
}
