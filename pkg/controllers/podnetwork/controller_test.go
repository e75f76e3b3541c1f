// SPDX-License-Identifier: Apache-2.0

package podnetwork_test

import (
	"testing"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	controllerconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/controllers/provisioning"
	podnet "github.com/dovetail-dev/dovetail/pkg/podnetwork"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// TestPodNetworks runs one API server for all: each test has its own VPC, and leaves the cluster empty.
func TestPodNetworks(t *testing.T) {
	config := startCluster(t)
	for name, test := range map[string]func(*world){
		"a network is ready when each zone has an ENIConfig":                        testReady,
		"one ENIConfig at fault is named and leaves the other zones usable":         testENIConfigAtFault,
		"a zone without an ENIConfig is named":                                      testENIConfigMissing,
		"a NodePool that allows no zone with an ENIConfig is warned":                testNodePoolWithoutZone,
		"an ENIConfig of the network's name is told of its fault too":               testSameName,
		"a NodePool is not warned of a network whose ENIConfigs are on their way":   testNewNetwork,
		"ENIConfigs that are being made are not missed":                             testProvisioning,
		"metrics show conditions, and nodes by drift":                               testMetrics,
		"what ENIs and reservations take from a pod subnet is counted":              testCapacity,
		"nodes, their pods and those with older settings are counted":               testNodes,
		"a replaced node counts as outdated until it is gone":                       testDraining,
		"Karpenter's drift check is woken for nodes that are outdated":              testDriftChecks,
		"another way to compute the hash replaces no node":                          testHashVersions,
		"a node with another max-pods than it was launched for is told":             testMaxPods,
		"two networks on one node class are both told":                              testConflict,
		"an answer that EC2 does not give leaves the zones as they were":            testEC2Away,
		"a network whose selector cannot be read leaves the others serving":         testUnreadableSelector,
		"where static allocation is not possible is said":                           testStatic,
		"nothing to serve is said":                                                  testNoNodeClass,
		"a status that says what is so is not written again":                        testNoNeedlessWrite,
		"aws-node is kept off the nodes of Dovetail's agent":                        testVPCCNIOnDovetailNodes,
		"aws-node must be there for nodes that it is to serve":                      testVPCCNIMissing,
		"aws-node must select the nodes that it is to serve":                        testVPCCNINotOnNodes,
		"aws-node's environment is compared with the network":                       testVPCCNISettings,
		"an environment that cannot be seen is said":                                testVPCCNISettingsHidden,
		"a network that is older than what is stored is no error":                   testStaleNetwork,
		"full pod subnets make capacity unavailable and leave the network in order": testFull,
	} {
		t.Run(name, func(t *testing.T) { test(newWorld(t, config)) })
	}
	for name, refusal := range refusals {
		t.Run("no node is launched or replaced while refused: "+name, func(t *testing.T) { testRefusal(newWorld(t, config), refusal) })
	}
	t.Run("a mended ENIConfig shows without waiting", func(t *testing.T) { testWatches(newWorld(t, config), config) })
}

func requireCondition(t require.TestingT, network *v1alpha1.PodNetwork, name string, status metav1.ConditionStatus, reason string) {
	condition := network.StatusConditions().Get(name)
	require.Equal(t, status, condition.Status, "%s: %s", name, condition.Message)
	require.Equal(t, reason, condition.Reason, condition.Message)
}

func zoneNames(network *v1alpha1.PodNetwork) []string {
	return lo.Map(network.Status.Zones, func(z v1alpha1.ZoneStatus, _ int) string { return z.Zone })
}

func testReady(w *world) {
	network := w.reconcile("default")
	for _, condition := range []string{
		"Ready", v1alpha1.ConditionENIConfigsReady, v1alpha1.ConditionSubnetsReady, v1alpha1.ConditionCapacityAvailable, v1alpha1.ConditionMigrationComplete,
	} {
		require.True(w, network.StatusConditions().Get(condition).IsTrue(), condition)
	}
	require.Len(w, network.Status.Zones, 3)
	require.Equal(w, v1alpha1.ZoneStatus{
		Zone: "us-east-1a", ENIConfig: "us-east-1a", Subnet: zones[0].podSubnet, CIDR: "100.64.0.0/19", FreePrefixes: 510, FreeAddresses: 8187,
	}, network.Status.Zones[0])
}

func testENIConfigAtFault(w *world) {
	for _, fault := range []struct {
		change            func(*eniconfig.ENIConfigSpec)
		condition, reason string
	}{
		{func(s *eniconfig.ENIConfigSpec) { s.Subnet = "subnet-0123456789abcdef0" }, v1alpha1.ConditionSubnetsReady, "SubnetNotFound"},
		{func(s *eniconfig.ENIConfigSpec) { s.Subnet = zones[0].podSubnet }, v1alpha1.ConditionSubnetsReady, "SubnetInOtherZone"},
		{func(s *eniconfig.ENIConfigSpec) { s.Subnet = foreignSubnet }, v1alpha1.ConditionSubnetsReady, "SubnetInOtherVPC"},
		{func(s *eniconfig.ENIConfigSpec) { s.SecurityGroups = []string{"sg-0123456789abcdef0"} }, v1alpha1.ConditionENIConfigsReady, "SecurityGroupNotFound"},
		{func(s *eniconfig.ENIConfigSpec) { s.SecurityGroups = []string{foreignGroup} }, v1alpha1.ConditionENIConfigsReady, "SecurityGroupInOtherVPC"},
	} {
		w.updateENIConfig("us-east-1b", func(s *eniconfig.ENIConfigSpec) {
			s.Subnet, s.SecurityGroups = zones[1].podSubnet, nil
			fault.change(s)
		})
		network := w.reconcile("default")
		requireCondition(w, network, fault.condition, metav1.ConditionFalse, fault.reason)
		requireCondition(w, network, "Ready", metav1.ConditionFalse, fault.reason)
		require.Equal(w, []string{"us-east-1a", "us-east-1c"}, zoneNames(network))
		message := network.StatusConditions().Get(fault.condition).Message
		require.Contains(w, message, "ENIConfig us-east-1b")
		w.requireEvent("PodNetwork", "default", fault.reason, message)
		w.requireEvent("ENIConfig", "us-east-1b", fault.reason, message)
	}
}

func testENIConfigMissing(w *world) {
	require.NoError(w, w.Delete(w.Context(), eniConfig("us-east-1c", "")))
	network := w.reconcile("default")
	requireCondition(w, network, v1alpha1.ConditionENIConfigsReady, metav1.ConditionFalse, "ENIConfigMissing")
	require.True(w, network.StatusConditions().Get(v1alpha1.ConditionSubnetsReady).IsTrue())
	require.Equal(w, []string{"us-east-1a", "us-east-1b"}, zoneNames(network))
	message := network.StatusConditions().Get(v1alpha1.ConditionENIConfigsReady).Message
	require.Contains(w, message, "zone us-east-1c: no ENIConfig is named us-east-1c (there are us-east-1a, us-east-1b)")
	w.requireEvent("PodNetwork", "default", "ENIConfigMissing", message)
}

func testNodePoolWithoutZone(w *world) {
	require.NoError(w, w.Delete(w.Context(), eniConfig("us-east-1c", "")))
	for name, zones := range map[string][]string{"pinned": {"us-east-1c"}, "wide": {"us-east-1b", "us-east-1c"}} {
		w.create(nodePool(name, karpv1.NodeSelectorRequirementWithMinValues{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: zones}))
	}
	w.reconcile("default")
	w.requireEvent("NodePool", "pinned", podnetwork.ReasonNoPodNetworkZone, "pod network default has no usable ENIConfig in a zone that this NodePool allows "+
		"(topology.kubernetes.io/zone In [us-east-1c]); it has them in: us-east-1a, us-east-1b; see the conditions of the PodNetwork")
	// Events are written in order, and NodePools are looked at by name: one on "wide" would be on its way only after "pinned".
	w.create(nodePool("zzz", karpv1.NodeSelectorRequirementWithMinValues{Key: corev1.LabelTopologyZone, Operator: corev1.NodeSelectorOpIn, Values: []string{"us-east-1d"}}))
	w.reconcile("default")
	w.requireEvent("NodePool", "zzz", podnetwork.ReasonNoPodNetworkZone, "pod network default has no usable ENIConfig in a zone that this NodePool allows "+
		"(topology.kubernetes.io/zone In [us-east-1d]); it has them in: us-east-1a, us-east-1b; see the conditions of the PodNetwork")
	list := &corev1.EventList{}
	require.NoError(w, w.List(w.Context(), list, client.InNamespace(metav1.NamespaceDefault)))
	require.False(w, lo.ContainsBy(list.Items, func(e corev1.Event) bool { return e.InvolvedObject.Name == "wide" }))
}

func testSameName(w *world) {
	network := w.network("default")
	network.Spec.ENIConfigs.NodeLabel = v1alpha1.LabelENIConfig
	require.NoError(w, w.Update(w.Context(), network))
	w.create(eniConfig("default", zones[0].podSubnet, "sg-0123456789abcdef0"))
	message := w.reconcile("default").StatusConditions().Get(v1alpha1.ConditionENIConfigsReady).Message
	for _, kind := range []string{"PodNetwork", "ENIConfig"} {
		w.requireEvent(kind, "default", "SecurityGroupNotFound", message)
	}
}

func testNewNetwork(w *world) {
	require.NoError(w, w.DeleteAllOf(w.Context(), &eniconfig.ENIConfig{}))
	w.create(nodePool("default"))
	created := w.network("default").CreationTimestamp.Time
	look := func(age time.Duration) ([]events.Event, time.Duration) {
		told := &published{}
		controller := w.controllerAt(created.Add(age))
		controller.Recorder = told
		result, err := controller.Reconcile(w.Context(), w.network("default"))
		require.NoError(w, err)
		return lo.Filter(told.events, func(e events.Event, _ int) bool { return e.Reason == podnetwork.ReasonNoPodNetworkZone }), result.RequeueAfter
	}
	told, again := look(time.Second)
	require.Empty(w, told)
	require.Positive(w, again)
	told, _ = look(time.Second + again)
	require.Len(w, told, 1, "at the next look")
}

func testProvisioning(w *world) {
	require.NoError(w, w.DeleteAllOf(w.Context(), &eniconfig.ENIConfig{}))
	w.create(nodePool("default"))
	network := w.network("default")
	network.Spec.Provision = &v1alpha1.Provision{CIDRs: []string{"100.64.0.0/16"}}
	require.NoError(w, w.Update(w.Context(), network))
	now := time.Now().Add(time.Hour).Truncate(time.Second)
	look := func(at time.Time) (warnings []string, again time.Duration) {
		told := &published{}
		controller := w.controllerAt(at)
		controller.Recorder = told
		result, err := controller.Reconcile(w.Context(), w.network("default"))
		require.NoError(w, err)
		return lo.Map(told.events, func(e events.Event, _ int) string { return e.Reason }), result.RequeueAfter
	}
	provisioned := func(condition *status.Condition) {
		network := w.network("default")
		network.PutCondition(v1alpha1.ConditionProvisioned, condition, metav1.NewTime(now))
		require.NoError(w, w.Status().Update(w.Context(), network))
	}
	missed := []string{podnet.ReasonENIConfigMissing, podnet.ReasonENIConfigMissing, podnet.ReasonENIConfigMissing, podnetwork.ReasonNoPodNetworkZone}
	quiet := func(at time.Time) {
		w.Helper()
		warnings, again := look(at)
		require.Empty(w, warnings)
		require.Less(w, again, time.Minute, "it looks again soon")
		network := w.network("default")
		requireCondition(w, network, "Ready", metav1.ConditionFalse, podnet.ReasonProvisioning)
		require.Contains(w, network.StatusConditions().Get("Ready").Message, "zone us-east-1a: its pod subnet and ENIConfig are being made")
	}
	quiet(now) // nothing is known yet
	provisioned(&status.Condition{Status: metav1.ConditionFalse, Reason: provisioning.ReasonProvisioning, Message: "9 steps are left"})
	quiet(now)
	provisioned(&status.Condition{Status: metav1.ConditionFalse, Reason: "NoRoomForSubnet", Message: "no room"})
	warnings, _ := look(now)
	require.Equal(w, missed, warnings, "nobody makes them")
	requireCondition(w, w.network("default"), "Ready", metav1.ConditionFalse, podnet.ReasonENIConfigMissing)
	provisioned(&status.Condition{Status: metav1.ConditionTrue, Reason: provisioning.ReasonProvisioned})
	quiet(now.Add(time.Second)) // their own watch may be later
	warnings, _ = look(now.Add(time.Minute))
	require.Equal(w, missed, warnings)

	network = w.network("default")
	network.Spec.Provision.CIDRs = append(network.Spec.Provision.CIDRs, "100.65.0.0/16")
	require.NoError(w, w.Update(w.Context(), network))
	quiet(now.Add(time.Minute)) // what was told is of the spec before
}

// published keeps events as they are before anything is left out.
type published struct{ events []events.Event }

func (p *published) Publish(more ...events.Event) { p.events = append(p.events, more...) }

func nodePool(name string, requirements ...karpv1.NodeSelectorRequirementWithMinValues) *karpv1.NodePool {
	pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: name}}
	pool.Spec.Template.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}
	pool.Spec.Template.Spec.Requirements = append([]karpv1.NodeSelectorRequirementWithMinValues{}, requirements...)
	pool.Spec.Disruption.ConsolidateAfter = karpv1.MustParseNillableDuration("30s")
	return pool
}

func testCapacity(w *world) {
	_, err := w.ec2.CreateNetworkInterface(w.Context(), &ec2.CreateNetworkInterfaceInput{
		SubnetId: awssdk.String(zones[0].podSubnet), PrivateIpAddress: awssdk.String("100.64.0.4"), Ipv4PrefixCount: awssdk.Int32(3),
	})
	require.NoError(w, err)
	_, err = w.ec2.CreateSubnetCidrReservation(w.Context(), &ec2.CreateSubnetCidrReservationInput{
		SubnetId: awssdk.String(zones[1].podSubnet), Cidr: awssdk.String("100.64.48.0/20"), ReservationType: ec2types.SubnetCidrReservationTypePrefix,
	})
	require.NoError(w, err)
	found := w.reconcile("default").Status.Zones
	require.EqualValues(w, 507, found[0].FreePrefixes, "the address lies in the first block, which AWS's own addresses spoil")
	require.EqualValues(w, 8187-1-3*16, found[0].FreeAddresses)
	require.EqualValues(w, 255, found[1].FreePrefixes, "prefixes come from the reservation, whose last block has AWS's last address")
	require.EqualValues(w, 4096, found[1].Reserved)
	require.EqualValues(w, 4092, found[1].FreeAddresses, "single addresses come from the rest")
	require.EqualValues(w, 510, found[2].FreePrefixes)
}

// nodeClaim that is launched, of the node class default; its node is there when it has a name.
func (w *world) nodeClaim(name, zone, node string, annotations map[string]string) *karpv1.NodeClaim {
	w.Helper()
	claim := &karpv1.NodeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}, Annotations: annotations}}
	if len(annotations) > 0 {
		claim.Labels[v1alpha1.LabelPodNetwork] = "default"
	}
	claim.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}
	claim.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{}
	w.create(claim)
	claim.Status.NodeName = node
	claim.StatusConditions().SetTrue(karpv1.ConditionTypeLaunched)
	require.NoError(w, w.Status().Update(w.Context(), claim))
	if node != "" {
		w.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: node, Labels: claim.Labels}})
	}
	return claim
}

func stamp(hash string) map[string]string {
	return map[string]string{v1alpha1.AnnotationPodNetworkHash: hash, v1alpha1.AnnotationPodNetworkHashVersion: v1alpha1.PodNetworkHashVersion}
}

func testNodes(w *world) {
	present := w.network("default").Hash()
	w.nodeClaim("current", "us-east-1a", "node-1", stamp(present))
	w.nodeClaim("outdated", "us-east-1a", "node-2", stamp("0123456789abcdef"))
	w.nodeClaim("registering", "us-east-1b", "", stamp(present))
	w.nodeClaim("from-before", "us-east-1b", "", nil)
	w.create(&corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: "default"}})
	for name, spec := range map[string]corev1.PodSpec{
		"one": {NodeName: "node-1"}, "two": {NodeName: "node-1"}, "host": {NodeName: "node-1", HostNetwork: true}, "three": {NodeName: "node-2"}, "pending": {},
	} {
		spec.Containers = []corev1.Container{{Name: "web", Image: "web"}}
		w.create(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceDefault, Name: name}, Spec: spec})
	}

	network := w.reconcile("default")
	require.Equal(w, v1alpha1.NodesStatus{Total: 4, Current: 2, Outdated: 2}, network.Status.Nodes)
	requireCondition(w, network, v1alpha1.ConditionMigrationComplete, metav1.ConditionFalse, "NodesOutdated")
	require.True(w, network.StatusConditions().Root().IsTrue(), "a migration is no fault")
	require.EqualValues(w, 2, network.Status.Zones[0].Nodes)
	require.EqualValues(w, 3, network.Status.Zones[0].Pods)
	require.Zero(w, network.Status.Zones[1].Pods)
}

// A replaced node still has pods while it drains: the migration is not over then.
func testDraining(w *world) {
	const finalizer = "karpenter.sh/termination" // as Karpenter's own
	outdated := w.nodeClaim("outdated", "us-east-1a", "", stamp("0123456789abcdef"))
	w.nodeClaim("current", "us-east-1a", "", stamp(w.network("default").Hash()))
	outdated.Finalizers = []string{finalizer}
	require.NoError(w, w.Update(w.Context(), outdated))
	require.NoError(w, w.Delete(w.Context(), outdated))

	w.reconcile("default")
	network := w.reconcile("default")
	require.Equal(w, v1alpha1.NodesStatus{Total: 2, Current: 1, Outdated: 1}, network.Status.Nodes)
	requireCondition(w, network, v1alpha1.ConditionMigrationComplete, metav1.ConditionFalse, "NodesOutdated")
	require.NoError(w, w.Get(w.Context(), client.ObjectKeyFromObject(outdated), outdated))
	require.Empty(w, outdated.Annotations[v1alpha1.AnnotationDriftVerdict], "nothing is to be decided about it any more")

	outdated.Finalizers = nil
	require.NoError(w, w.Update(w.Context(), outdated))
	network = w.reconcile("default")
	require.Equal(w, v1alpha1.NodesStatus{Total: 1, Current: 1}, network.Status.Nodes)
	require.True(w, network.StatusConditions().Get(v1alpha1.ConditionMigrationComplete).IsTrue())
}

// Karpenter looks at a NodeClaim when it changes, and otherwise every five minutes.
func testDriftChecks(w *world) {
	outdated := w.nodeClaim("outdated", "us-east-1a", "", stamp("0123456789abcdef"))
	current := w.nodeClaim("current", "us-east-1a", "", stamp(w.network("default").Hash()))
	verdict := func(claim *karpv1.NodeClaim) string {
		require.NoError(w, w.Get(w.Context(), client.ObjectKeyFromObject(claim), claim))
		return claim.Annotations[v1alpha1.AnnotationDriftVerdict]
	}
	w.updateENIConfig("us-east-1a", func(spec *eniconfig.ENIConfigSpec) { spec.Subnet = "subnet-0d0ec0de00000dead" })
	w.reconcile("default")
	w.reconcile("default")
	require.Empty(w, verdict(outdated), "the network cannot launch nodes: none is replaced for it")

	w.updateENIConfig("us-east-1a", func(spec *eniconfig.ENIConfigSpec) { spec.Subnet = zones[0].podSubnet })
	w.reconcile("default")
	w.reconcile("default")
	require.Contains(w, verdict(outdated), "PodNetworkDrift")
	require.Empty(w, verdict(current))
	version := outdated.ResourceVersion
	w.reconcile("default")
	require.Contains(w, verdict(outdated), "PodNetworkDrift")
	require.Equal(w, version, outdated.ResourceVersion, "once is enough")
}

func testHashVersions(w *world) {
	old := map[string]string{v1alpha1.AnnotationPodNetworkHash: "computed otherwise", v1alpha1.AnnotationPodNetworkHashVersion: "v0"}
	kept := w.nodeClaim("kept", "us-east-1a", "", old)
	drifted := w.nodeClaim("drifted", "us-east-1a", "", old)
	drifted.StatusConditions().SetTrueWithReason(karpv1.ConditionTypeDrifted, "NodePoolDrifted", "NodePoolDrifted")
	require.NoError(w, w.Status().Update(w.Context(), drifted))
	require.Equal(w, v1alpha1.NodesStatus{Total: 2, Current: 1, Outdated: 1}, w.reconcile("default").Status.Nodes)
	for _, claim := range []*karpv1.NodeClaim{kept, drifted} {
		require.NoError(w, w.Get(w.Context(), client.ObjectKeyFromObject(claim), claim))
		require.Equal(w, v1alpha1.PodNetworkHashVersion, claim.Annotations[v1alpha1.AnnotationPodNetworkHashVersion])
	}
	require.Equal(w, w.network("default").Hash(), kept.Annotations[v1alpha1.AnnotationPodNetworkHash])
	require.Equal(w, "computed otherwise", drifted.Annotations[v1alpha1.AnnotationPodNetworkHash])
}

func testMaxPods(w *world) {
	claim := w.nodeClaim("claim", "us-east-1a", "", stamp("0123456789abcdef"))
	claim.Labels[v1alpha1.LabelMaxPods] = "110"
	w.create(&corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: claim.Labels},
		Status:     corev1.NodeStatus{Capacity: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("58")}},
	})
	w.reconcile("default")
	w.requireEvent("Node", "node-1", "MaxPodsMismatch", "the node takes 58 pods, and was launched for 110: let the AMI and the node class's user data leave the kubelet's maxPods to Dovetail")
}

func testConflict(w *world) {
	w.create(&v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "second"}})
	for _, name := range []string{"default", "second"} {
		network := w.reconcile(name)
		requireCondition(w, network, v1alpha1.ConditionENIConfigsReady, metav1.ConditionFalse, "NodeClassConflict")
		w.requireEvent("PodNetwork", name, "NodeClassConflict", network.StatusConditions().Get(v1alpha1.ConditionENIConfigsReady).Message)
	}
	require.Len(w, w.network("default").Status.Zones, 3, "the first goes on serving")
}

func testUnreadableSelector(w *world) {
	unreadable := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "unreadable"}}
	unreadable.Spec.NodeClassSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "team", Operator: "Near"}}
	w.create(unreadable)
	require.True(w, w.reconcile("default").StatusConditions().Root().IsTrue())
	_, err := w.controller().Reconcile(w.Context(), w.network("unreadable"))
	require.ErrorContains(w, err, "spec.nodeClassSelector of PodNetwork unreadable")
	requireCondition(w, w.network("unreadable"), v1alpha1.ConditionSubnetsReady, metav1.ConditionUnknown, "ReadingFailed")
}

func testEC2Away(w *world) {
	before := w.reconcile("default")
	_, err := w.cloud.AddFault(aws.Fault{Times: 1, Error: &aws.ErrorFault{Action: "DescribeSubnets", Code: "RequestLimitExceeded"}})
	require.NoError(w, err)
	_, err = w.controller().Reconcile(w.Context(), w.network("default"))
	require.ErrorContains(w, err, "RequestLimitExceeded")
	network := w.network("default")
	requireCondition(w, network, v1alpha1.ConditionSubnetsReady, metav1.ConditionUnknown, "ReadingFailed")
	require.Equal(w, before.Status.Zones, network.Status.Zones)

	require.True(w, w.reconcile("default").StatusConditions().Root().IsTrue(), "the next answer heals it")
}

func testNoNodeClass(w *world) {
	network := w.network("default")
	network.Spec.NodeClassSelector.MatchLabels = map[string]string{"team": "nobody"}
	require.NoError(w, w.Update(w.Context(), network))
	network = w.reconcile("default")
	requireCondition(w, network, v1alpha1.ConditionENIConfigsReady, metav1.ConditionFalse, "NoNodeClass")
	require.Empty(w, network.Status.Zones)
}

func testNoNeedlessWrite(w *world) {
	require.Equal(w, w.reconcile("default").ResourceVersion, w.reconcile("default").ResourceVersion)
}

func testStaleNetwork(w *world) {
	stale := w.network("default")
	newest := w.reconcile("default")
	_, err := w.controller().Reconcile(w.Context(), stale)
	require.NoError(w, err)
	require.Equal(w, newest, w.network("default"))
}

func testFull(w *world) {
	full := "subnet-0d0ec0de0000000d1"
	w.createSubnet(full, vpcID, "us-east-1a", "100.64.96.0/28") // its one block has AWS's own addresses
	for _, zone := range zones[1:] {
		require.NoError(w, w.Delete(w.Context(), eniConfig(zone.name, "")))
	}
	network := w.network("default")
	network.Spec.ENIConfigs.NodeLabel = v1alpha1.LabelENIConfig
	require.NoError(w, w.Update(w.Context(), network))
	w.updateENIConfig("us-east-1a", func(s *eniconfig.ENIConfigSpec) { s.Subnet = full })
	network = w.reconcile("default")
	require.Len(w, network.Status.Zones, 1)
	requireCondition(w, network, v1alpha1.ConditionCapacityAvailable, metav1.ConditionTrue, podnetwork.ReasonSingleAddresses)
	require.Contains(w, network.StatusConditions().Get(v1alpha1.ConditionCapacityAvailable).Message, "pod subnet "+full+" (zone us-east-1a, ENIConfig us-east-1a)")

	network.Spec.Agent = v1alpha1.AgentVPCCNI
	require.NoError(w, w.Update(w.Context(), network))
	network = w.reconcile("default")
	requireCondition(w, network, v1alpha1.ConditionCapacityAvailable, metav1.ConditionFalse, "PodSubnetsFull")

	network.Spec.Agent = v1alpha1.AgentDovetail
	network.Spec.Addressing.PrefixDelegation = v1alpha1.Disabled
	require.NoError(w, w.Update(w.Context(), network))
	network = w.reconcile("default")
	require.True(w, network.StatusConditions().Get(v1alpha1.ConditionCapacityAvailable).IsTrue(), "11 single addresses are left")
}

func testWatches(w *world, config *rest.Config) {
	m, err := manager.New(config, manager.Options{
		Scheme:     scheme.Scheme,
		Metrics:    metricsserver.Options{BindAddress: "0"},
		Controller: controllerconfig.Controller{SkipNameValidation: awssdk.Bool(true)}, // go test -count
	})
	require.NoError(w, err)
	podSubnets := w.podSubnets()
	controller := podnetwork.NewController(podnetwork.Params{Client: m.GetClient(), EC2: w.ec2, PodSubnets: podSubnets, Recorder: w.recorder, Clock: clock.RealClock{}})
	require.NoError(w, controller.Register(w.Context(), m))
	stopped := make(chan error, 1)
	ctx := w.Context()
	go func() { stopped <- m.Start(ctx) }()
	w.Cleanup(func() { require.NoError(w, <-stopped) })

	becomes := func(status metav1.ConditionStatus) {
		w.Helper()
		require.EventuallyWithT(w, func(c *assert.CollectT) {
			network := &v1alpha1.PodNetwork{}
			require.NoError(c, w.Get(w.Context(), client.ObjectKey{Name: "default"}, network))
			require.Equal(c, status, network.StatusConditions().Root().Status)
		}, time.Minute, 50*time.Millisecond)
	}
	becomes(metav1.ConditionTrue)
	w.updateENIConfig("us-east-1b", func(s *eniconfig.ENIConfigSpec) { s.Subnet = "subnet-0123456789abcdef0" })
	becomes(metav1.ConditionFalse)
	w.updateENIConfig("us-east-1b", func(s *eniconfig.ENIConfigSpec) { s.Subnet = zones[1].podSubnet })
	becomes(metav1.ConditionTrue)
	w.create(vpcCNI(nil))
	becomes(metav1.ConditionFalse)
	w.applyPatchOf(v1alpha1.ConditionAgentReady)
	becomes(metav1.ConditionTrue)

	// Nothing in the cluster changes now.
	_, err = w.ec2.CreateNetworkInterface(w.Context(), &ec2.CreateNetworkInterfaceInput{SubnetId: awssdk.String(zones[0].podSubnet), Ipv4PrefixCount: awssdk.Int32(3)})
	require.NoError(w, err)
	require.NoError(w, podSubnets.Refresh(w.Context()))
	require.EventuallyWithT(w, func(c *assert.CollectT) {
		network := &v1alpha1.PodNetwork{}
		require.NoError(c, w.Get(w.Context(), client.ObjectKey{Name: "default"}, network))
		require.Less(c, network.Status.Zones[0].FreePrefixes, int32(508))
	}, 30*time.Second, 50*time.Millisecond, "a reading shows at once, not a minute later")
}

func testStatic(w *world) {
	network := w.network("default")
	network.Spec.Addressing.Allocation = v1alpha1.AllocationStatic
	require.NoError(w, w.Update(w.Context(), network))
	condition := func() *status.Condition {
		return w.reconcile("default").StatusConditions().Get(v1alpha1.ConditionStaticAllocationAvailable)
	}
	require.True(w, condition().IsTrue())

	public := func(subnet string) {
		_, err := w.ec2.ModifySubnetAttribute(w.Context(), &ec2.ModifySubnetAttributeInput{
			SubnetId: awssdk.String(subnet), MapPublicIpOnLaunch: &ec2types.AttributeBooleanValue{Value: awssdk.Bool(true)},
		})
		require.NoError(w, err)
	}
	public(zones[1].nodeSubnet)
	require.Equal(w, []string{"True", "NotEverywhere"}, []string{string(condition().Status), condition().Reason})
	require.Contains(w, condition().Message, "node subnet "+zones[1].nodeSubnet+" gives public addresses (MapPublicIpOnLaunch)")

	public(zones[0].nodeSubnet)
	public(zones[2].nodeSubnet)
	network = w.reconcile("default")
	requireCondition(w, network, v1alpha1.ConditionStaticAllocationAvailable, metav1.ConditionFalse, "NodeSubnetGivesPublicAddresses")
	require.True(w, network.StatusConditions().Get("Ready").IsTrue(), "nodes come all the same")
	w.requireEvent("PodNetwork", "default", "NodeSubnetGivesPublicAddresses", condition().Message)

	nodeClass := &ec2nodeclass.EC2NodeClass{}
	require.NoError(w, w.Get(w.Context(), client.ObjectKey{Name: "default"}, nodeClass))
	nodeClass.Spec.AssociatePublicIPAddress = awssdk.Bool(true)
	require.NoError(w, w.Update(w.Context(), nodeClass))
	require.Equal(w, "PublicAddressRequested", condition().Reason)
	nodeClass.Spec.AssociatePublicIPAddress = awssdk.Bool(false)
	require.NoError(w, w.Update(w.Context(), nodeClass))
	require.True(w, condition().IsTrue())

	network = w.network("default")
	network.Spec.Addressing.Allocation = v1alpha1.AllocationDynamic
	require.NoError(w, w.Update(w.Context(), network))
	require.Nil(w, condition())
}
