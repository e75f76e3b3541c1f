// SPDX-License-Identifier: Apache-2.0

package securitygroups_test

import (
	"slices"
	"testing"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/awslabs/operatorpkg/status"
	"github.com/samber/lo"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	controllerconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/securitygroups"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// TestAChangeOfGroupsLeavesNoAttachedENIBehind runs one API server for all: each test has its own account, and leaves the cluster
// empty.
func TestAChangeOfGroupsLeavesNoAttachedENIBehind(t *testing.T) {
	config := chartstest.StartAPIServer(t)
	apis.Register(scheme.Scheme)
	for name, test := range map[string]func(*world){
		"each pod ENI of the ENIConfig's nodes follows it, once":           testFollows,
		"without groups the primary ENI's hold":                            testPrimary,
		"the ENIConfig that a node chooses by its annotation counts":       testChoice,
		"an ENI in a subnet that the ENIConfig has left follows it too":    testOldSubnet,
		"ENIs of others are never touched":                                 testOthers,
		"an ENI that came with its launch is a pod ENI":                    testLaunched,
		"the nodes of aws-node are aws-node's":                             testVPCCNI,
		"a group of another VPC is said and not asked for again and again": testForeignGroup,
		"a missing right is said and not asked for again and again":        testUnauthorized,
		"what EC2 refuses for one ENIConfig holds up no other":             testOneRefused,
		"throttling ends the round and not the work":                       testThrottled,
		"a deleted ENIConfig leaves the groups as they are":                testDeleted,
		"the condition leaves Ready to the controller that knows":          testReady,
		"a network that is older than what is stored is no error":          testStaleNetwork,
		"a node that selects the same ENIConfig starts no round":           testNodeChanges,
		"packets meet the new groups":                                      testPackets,
	} {
		t.Run(name, func(t *testing.T) { test(newWorld(t, config)) })
	}
	t.Run("a change of the ENIConfig or of the node shows without waiting", func(t *testing.T) { testWatches(newWorld(t, config), config) })
}

func condition(network *v1alpha1.PodNetwork) status.Condition {
	c, _ := lo.Find(network.Status.Conditions, func(c status.Condition) bool { return c.Type == v1alpha1.ConditionSecurityGroupsApplied })
	return c
}

func requireApplied(w *world, network *v1alpha1.PodNetwork) {
	w.Helper()
	c := condition(network)
	require.Equal(w, metav1.ConditionTrue, c.Status, "%s: %s", c.Reason, c.Message)
}

func requireRefused(w *world, network *v1alpha1.PodNetwork, reason eni.Reason, message string) {
	w.Helper()
	c := condition(network)
	require.Equal(w, metav1.ConditionFalse, c.Status)
	require.Equal(w, string(reason), c.Reason, c.Message)
	require.Contains(w, c.Message, message)
}

func testFollows(w *world) {
	a, b := w.node(), w.node()
	enis := []string{w.podENI(a, w.first), w.podENI(a, w.first), w.podENI(b, w.first)}
	network, next := w.round()
	requireApplied(w, network)
	require.Equal(w, 5*time.Minute, next)
	require.Zero(w, w.changes, "what is right is left alone")

	w.setGroups(w.third, w.second)
	network, _ = w.round()
	requireApplied(w, network)
	for _, id := range enis {
		require.Equal(w, slices.Sorted(slices.Values([]string{w.second, w.third})), w.groupsOf(id))
	}
	require.Equal(w, 3, w.changes)

	w.setGroups(w.second, w.third)
	w.round()
	require.Equal(w, 3, w.changes, "the order of groups means nothing")
}

func testPrimary(w *world) {
	id := w.podENI(w.node(), w.first)
	w.setGroups()
	network, _ := w.round()
	requireApplied(w, network)
	require.Equal(w, []string{w.nodes}, w.groupsOf(id))
	require.Equal(w, 1, w.changes)
	w.round()
	require.Equal(w, 1, w.changes)
}

func testChoice(w *world) {
	w.create(&eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: "big"}, Spec: eniconfig.ENIConfigSpec{Subnet: w.podSubnet, SecurityGroups: []string{w.second}}})
	usual := w.podENI(w.node(), w.first)
	chosen := w.podENI(w.node(func(n *corev1.Node) { n.Annotations = map[string]string{v1alpha1.AnnotationENIConfig: "big"} }), w.first)
	w.round()
	require.Equal(w, []string{w.first}, w.groupsOf(usual))
	require.Equal(w, []string{w.second}, w.groupsOf(chosen))
}

func testOldSubnet(w *world) {
	id := w.podENI(w.node(), w.first)
	w.updateENIConfig(func(s *eniconfig.ENIConfigSpec) { s.Subnet, s.SecurityGroups = w.otherSubnet, []string{w.second} })
	w.round()
	require.Equal(w, []string{w.second}, w.groupsOf(id))
}

func testOthers(w *world) {
	instance, elsewhere := w.node(), w.node(func(n *corev1.Node) { n.Labels = nil })
	own := func(of string) map[string]string {
		return map[string]string{eni.TagCluster: cluster, eni.TagOwner: eni.OwnerDovetail, eni.TagInstance: of}
	}
	unmanaged := lo.Assign(own(instance), map[string]string{eni.TagNoManage: "true"})
	foreign := lo.Assign(own(instance), map[string]string{eni.TagCluster: "another"})
	kept := map[string]string{
		"one that is to be left alone":     w.attached(instance, 1, unmanaged, w.third),
		"one of another cluster":           w.attached(instance, 2, foreign, w.third),
		"one without tags":                 w.attached(elsewhere, 1, nil, w.third),
		"one of a node without PodNetwork": w.podENI(elsewhere, w.third),
	}
	w.setGroups(w.second)
	w.round()
	for what, id := range kept {
		require.Equal(w, []string{w.third}, w.groupsOf(id), what)
	}
	require.Zero(w, w.changes)
}

func testLaunched(w *world) {
	id := w.attached(w.node(), 1, map[string]string{eni.TagCluster: cluster, eni.TagOwner: eni.OwnerDovetail}, w.first)
	w.setGroups(w.second)
	w.round()
	require.Equal(w, []string{w.second}, w.groupsOf(id))
}

func testVPCCNI(w *world) {
	id := w.podENI(w.node(), w.first)
	w.setGroups(w.foreign)
	network, _ := w.round()
	requireRefused(w, network, eni.GroupMissing, "")
	network.Spec.Agent = v1alpha1.AgentVPCCNI
	require.NoError(w, w.Update(w.Context(), network))
	w.setGroups(w.second)
	network, next := w.round()
	require.Zero(w, next)
	require.Equal(w, []string{w.first}, w.groupsOf(id))
	require.Empty(w, condition(network).Type, "it is not known any more")
}

func testForeignGroup(w *world) {
	instance := w.node()
	enis := []string{w.podENI(instance, w.first), w.podENI(instance, w.first)}
	w.setGroups(w.foreign)
	network, next := w.round()
	requireRefused(w, network, eni.GroupMissing, "ENIConfig default: pod ENIs of running nodes keep their security groups until spec.securityGroups names existing groups of the nodes' VPC")
	require.Contains(w, condition(network).Message, "(2 ENIs)")
	require.Equal(w, 1, w.changes, "refused for one, refused for the other")
	require.Equal(w, 15*time.Second, next)
	w.round() // something woke it
	require.Equal(w, 1, w.changes)
	var pauses []time.Duration
	for range 6 {
		w.clock.Step(next)
		network, next = w.round()
		pauses = append(pauses, next)
	}
	requireRefused(w, network, eni.GroupMissing, "")
	require.Equal(w, 7, w.changes)
	require.Equal(w, []time.Duration{30 * time.Second, time.Minute, 2 * time.Minute, 4 * time.Minute, 5 * time.Minute, 5 * time.Minute}, pauses)
	w.requireWarnings(string(eni.GroupMissing))

	w.setGroups(w.second)
	network, _ = w.round()
	requireApplied(w, network)
	for _, id := range enis {
		require.Equal(w, []string{w.second}, w.groupsOf(id), "what a person mended does not wait")
	}
}

func testUnauthorized(w *world) {
	id := w.podENI(w.node(), w.first)
	fault, err := w.cloud.AddFault(aws.Fault{Error: &aws.ErrorFault{Action: "ModifyNetworkInterfaceAttribute", Code: "UnauthorizedOperation", Rate: 1}})
	require.NoError(w, err)
	w.setGroups(w.second)
	network, _ := w.round()
	requireRefused(w, network, eni.Unauthorized, "until the controller's IAM role allows ec2:ModifyNetworkInterfaceAttribute")
	w.round()
	require.Equal(w, 1, w.changes)
	w.requireWarnings(string(eni.Unauthorized))

	require.NoError(w, w.cloud.RemoveFault(fault.ID))
	w.clock.Step(15 * time.Second)
	network, _ = w.round()
	requireApplied(w, network)
	require.Equal(w, []string{w.second}, w.groupsOf(id))
}

func testOneRefused(w *world) {
	w.create(&eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: "bad"}, Spec: eniconfig.ENIConfigSpec{Subnet: w.podSubnet, SecurityGroups: []string{"sg-0123456789abcdef0"}}})
	refused := w.podENI(w.node(func(n *corev1.Node) { n.Annotations = map[string]string{v1alpha1.AnnotationENIConfig: "bad"} }), w.first)
	served := w.podENI(w.node(), w.first)
	w.setGroups(w.second)
	network, _ := w.round()
	requireRefused(w, network, eni.GroupMissing, "ENIConfig bad")
	require.Equal(w, []string{w.first}, w.groupsOf(refused))
	require.Equal(w, []string{w.second}, w.groupsOf(served))
}

func testThrottled(w *world) {
	instance := w.node()
	enis := []string{w.podENI(instance, w.first), w.podENI(instance, w.first)}
	_, err := w.cloud.AddFault(aws.Fault{Times: 1, Error: &aws.ErrorFault{Action: "ModifyNetworkInterfaceAttribute", Code: "RequestLimitExceeded", Rate: 1}})
	require.NoError(w, err)
	w.setGroups(w.second)
	network, next := w.round()
	require.Equal(w, securitygroups.ReasonApplying, condition(network).Reason)
	require.Equal(w, "2 pod ENIs wait for the security groups of their ENIConfig", condition(network).Message)
	require.Equal(w, 5*time.Second, next)
	require.Equal(w, 1, w.changes)
	network, _ = w.round()
	requireApplied(w, network)
	for _, id := range enis {
		require.Equal(w, []string{w.second}, w.groupsOf(id))
	}
}

func testDeleted(w *world) {
	id := w.podENI(w.node(), w.third)
	require.NoError(w, w.Delete(w.Context(), &eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: "default"}}))
	w.round()
	require.Equal(w, []string{w.third}, w.groupsOf(id))
	require.Zero(w, w.changes)
}

func testReady(w *world) {
	network, _ := w.round()
	network.StatusConditions().SetFalse("Ready", "SubnetNotFound", "mend it")
	require.NoError(w, w.Status().Update(w.Context(), network))
	w.podENI(w.node(), w.first)
	w.setGroups(w.foreign)
	network, _ = w.round()
	requireRefused(w, network, eni.GroupMissing, "")
	require.Equal(w, "SubnetNotFound", network.StatusConditions().Root().Reason)
	version := network.ResourceVersion
	network, _ = w.round()
	require.Equal(w, version, network.ResourceVersion, "a condition that says what is so is not written again")
}

func testStaleNetwork(w *world) {
	stale := &v1alpha1.PodNetwork{}
	require.NoError(w, w.Get(w.Context(), client.ObjectKey{Name: "default"}, stale))
	id := w.podENI(w.node(), w.first)
	w.round()
	w.setGroups(w.second)
	result, err := w.controller.Reconcile(w.Context(), stale)
	require.NoError(w, err)
	require.Less(w, result.RequeueAfter, time.Minute, "its condition is written soon")
	require.Equal(w, []string{w.second}, w.groupsOf(id))
	network, _ := w.round()
	requireApplied(w, network)
}

// roundsAsked remembers what is put into the queue of the controller.
type roundsAsked struct {
	workqueue.TypedRateLimitingInterface[reconcile.Request]
	names []string
}

func (r *roundsAsked) AddAfter(request reconcile.Request, _ time.Duration) {
	r.names = append(r.names, request.Name)
}

func testNodeChanges(w *world) {
	before := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", Labels: map[string]string{v1alpha1.LabelPodNetwork: "default", corev1.LabelTopologyZone: "us-east-1a"}}}
	after := func(change func(*corev1.Node)) []string {
		node, asked := before.DeepCopy(), &roundsAsked{}
		change(node)
		securitygroups.NodeChanged(w.controller, w.Context(), event.UpdateEvent{ObjectOld: before, ObjectNew: node}, asked)
		return asked.names
	}
	require.Empty(w, after(func(n *corev1.Node) { n.Labels["team"] = "web" }))
	require.Empty(w, after(func(n *corev1.Node) {
		n.Annotations = map[string]string{v1alpha1.AnnotationPodSubnetRefused: "subnet=subnet-1"}
	}))
	require.Empty(w, after(func(n *corev1.Node) { n.Spec.Unschedulable = true }))
	require.Empty(w, after(func(n *corev1.Node) { n.Labels[v1alpha1.LabelENIConfig] = "big" }), "the network goes by the zone")
	require.Empty(w, after(func(n *corev1.Node) { n.Labels = nil }), "it has left the network")
	require.Equal(w, []string{"default"}, after(func(n *corev1.Node) { n.Labels[corev1.LabelTopologyZone] = "us-east-1b" }))
	require.Equal(w, []string{"default"}, after(func(n *corev1.Node) { n.Annotations = map[string]string{v1alpha1.AnnotationENIConfig: "big"} }))
	require.Equal(w, []string{"default"}, after(func(n *corev1.Node) { n.Labels[v1alpha1.LabelExternalENIConfig] = "big" }))
}

func testWatches(w *world, config *rest.Config) {
	m, err := manager.New(config, manager.Options{
		Scheme: scheme.Scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: controllerconfig.Controller{SkipNameValidation: awssdk.Bool(true)}, // go test -count
	})
	require.NoError(w, err)
	instance := w.node()
	id := w.podENI(instance, w.first)
	controller := securitygroups.NewController(securitygroups.Params{Client: m.GetClient(), EC2: w.api, Cluster: cluster, Recorder: w.recorder, Clock: clock.RealClock{}})
	require.NoError(w, controller.Register(w.Context(), m))
	stopped := make(chan error, 1)
	ctx := w.Context()
	go func() { stopped <- m.Start(ctx) }()
	w.Cleanup(func() { require.NoError(w, <-stopped) })

	become := func(group string) {
		w.Helper()
		require.EventuallyWithT(w, func(c *assert.CollectT) { assert.Equal(c, []string{group}, w.groupsOf(id)) }, time.Minute, 50*time.Millisecond)
	}
	w.setGroups(w.second)
	become(w.second)

	w.create(&eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: "big"}, Spec: eniconfig.ENIConfigSpec{Subnet: w.podSubnet, SecurityGroups: []string{w.third}}})
	node := &corev1.Node{}
	require.NoError(w, w.Get(w.Context(), client.ObjectKey{Name: instance}, node))
	node.Annotations = map[string]string{v1alpha1.AnnotationENIConfig: "big"}
	require.NoError(w, w.Update(w.Context(), node))
	become(w.third)
}
