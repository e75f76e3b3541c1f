// SPDX-License-Identifier: Apache-2.0

package nodemigration_test

import (
	"slices"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
)

// TestNodesOfOthersAreMigrated runs on a whole control plane: its controllers make the pods again, its scheduler places them.
func TestNodesOfOthersAreMigrated(t *testing.T) {
	c := startCluster(t)
	for name, test := range map[string]func(*world){
		"nodes are emptied at most so many at a time":                            testBudget,
		"a budget of no disruptions is waited for, and pauses when time is over": testPodDisruptionBudget,
		"a pod that must not be disrupted is waited for":                         testDoNotDisrupt,
		"stop uncordons what the migration cordoned":                             testStop,
		"a deleted migration uncordons too, unless it is complete":               testDelete,
		"the user's pause":                                testPaused,
		"pods that stay pending pause the migration":      testPodsPending,
		"a full pod network pauses the migration":         testCapacity,
		"a killed controller goes on where it was":        testKilled,
		"nodes of Karpenter, and young ones, are refused": testRefused,
		"instances are ended when asked to":               testTerminate,
		"the controller's node waits for another one":     testController,
	} {
		t.Run(name, func(t *testing.T) { test(c.world(t)) })
	}
}

func testBudget(w *world) {
	old := w.nodes("old", 5)
	w.deploy("web", 12)
	w.budget("web", 3)
	fresh := w.nodes("new", 2)
	most := w.watchBudget()
	w.migrate(func(s *v1alpha1.NodeMigrationSpec) { s.MaxUnavailable = intstr.FromString("50%") })
	done := w.await(v1alpha1.MigrationComplete, v1alpha1.ReasonCompleted)

	require.Equal(w, int64(1), done.Generation, "somebody wrote the spec, its defaults too")
	require.Equal(w, int32(2), most.Load())
	require.Equal(w, int32(2), done.Status.MaxUnavailable)
	require.Equal(w, v1alpha1.MigratedNodes{Total: 5, Done: 5}, done.Status.Nodes)
	require.True(w, meta.IsStatusConditionTrue(done.Status.Conditions, v1alpha1.ConditionComplete))
	require.True(w, meta.IsStatusConditionFalse(done.Status.Conditions, v1alpha1.ConditionPaused))
	require.False(w, done.Status.FinishedAt.Before(done.Status.StartedAt))
	require.Empty(w, w.podsOn(w, old...))
	require.Len(w, w.podsOn(w, fresh...), 12)
	require.ElementsMatch(w, old, w.cordoned(w))
}

func testPodDisruptionBudget(w *world) {
	old := w.nodes("old", 2)
	w.deploy("web", 2)
	w.budget("web", 0)
	w.nodes("new", 1)
	w.migrate()
	waiting := w.await(v1alpha1.MigrationWaiting, v1alpha1.ReasonPodDisruptionBudget)
	require.Equal(w, "web", waiting.Status.Blocked[0].PodDisruptionBudget)
	require.Contains(w, w.podsOn(w, old...), waiting.Status.Blocked[0].Pod[len(w.namespace)+1:])
	require.Equal(w, old[:1], w.cordoned(w))
	w.requireWarning(v1alpha1.ReasonPodDisruptionBudget, w.namespace+"/web allows no eviction")

	w.change(func(s *v1alpha1.NodeMigrationSpec) { s.Timeouts.Eviction.Duration = time.Second })
	paused := w.await(v1alpha1.MigrationPaused, v1alpha1.ReasonPodDisruptionBudget)
	require.Equal(w, v1alpha1.ReasonPodDisruptionBudget, meta.FindStatusCondition(paused.Status.Conditions, v1alpha1.ConditionPaused).Reason)
	require.Equal(w, 1.0, w.metric("dovetail_node_migration_paused", map[string]string{"migration": "old", "reason": "PodDisruptionBudget"}))
	require.Equal(w, 1.0, w.metric("dovetail_node_migration_nodes", map[string]string{"migration": "old", "phase": "Draining"}))
	require.Len(w, w.podsOn(w, old...), 2)

	w.change(func(s *v1alpha1.NodeMigrationSpec) { s.Timeouts.Eviction.Duration = time.Hour })
	w.relax("web")
	w.await(v1alpha1.MigrationComplete, v1alpha1.ReasonCompleted)
	require.Empty(w, w.podsOn(w, old...))
	require.Zero(w, w.metric("dovetail_node_migration_paused", map[string]string{"migration": "old"}))
}

func testDoNotDisrupt(w *world) {
	old := w.nodes("old", 1)
	w.deploy("web", 1)
	w.deploy("batch", 1, func(d *appsv1.Deployment) {
		d.Spec.Template.Annotations = map[string]string{karpv1.DoNotDisruptAnnotationKey: "true"}
	})
	w.nodes("new", 1)
	w.migrate()
	waiting := w.await(v1alpha1.MigrationWaiting, v1alpha1.ReasonDoNotDisrupt)
	require.Equal(w, v1alpha1.NodePending, waiting.Status.NodeStatuses[0].Phase)
	require.Empty(w, w.cordoned(w))
	require.Len(w, w.podsOn(w, old...), 2)

	pods := &corev1.PodList{}
	require.NoError(w, w.List(w.Context(), pods, client.InNamespace(w.namespace), client.MatchingLabels{"app": "batch"}))
	w.update(&pods.Items[0], func(o client.Object) { o.SetAnnotations(nil) })
	w.await(v1alpha1.MigrationComplete, v1alpha1.ReasonCompleted)
	require.Empty(w, w.podsOn(w, old...))
}

// blocked has three old nodes in the middle of a migration: one done, one that was cordoned by hand, one or two that a budget holds.
func blocked(w *world) (old []string) {
	old = w.nodes("old", 4)
	w.update(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: old[0]}}, func(o client.Object) { o.(*corev1.Node).Spec.Unschedulable = true })
	w.deploy("web", 6, func(d *appsv1.Deployment) {
		d.Spec.Template.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway, LabelSelector: d.Spec.Selector,
		}}
	})
	w.budget("web", 0)
	w.nodes("new", 1)
	w.migrate(func(s *v1alpha1.NodeMigrationSpec) {
		s.MaxUnavailable = intstr.FromInt32(2)
		s.Cordon = v1alpha1.CordonAll
	})
	waiting := w.await(v1alpha1.MigrationWaiting, v1alpha1.ReasonPodDisruptionBudget)
	require.Equal(w, v1alpha1.MigratedNodes{Total: 4, Done: 1, Draining: 2, Pending: 1}, waiting.Status.Nodes)
	require.ElementsMatch(w, old, w.cordoned(w))
	require.ElementsMatch(w, old, w.marked(w))
	return old
}

func testStop(w *world) {
	old := blocked(w)
	w.change(func(s *v1alpha1.NodeMigrationSpec) { s.Stop = true })
	w.await(v1alpha1.MigrationStopped, v1alpha1.ReasonStopped)
	w.eventually(func(c *assert.CollectT) {
		require.Equal(c, old[:1], w.cordoned(c))
		require.Empty(c, w.marked(c))
	})
	// and it can be taken up again
	w.relax("web")
	w.change(func(s *v1alpha1.NodeMigrationSpec) { s.Stop = false })
	w.await(v1alpha1.MigrationComplete, v1alpha1.ReasonCompleted)
	require.Empty(w, w.podsOn(w, old...))
}

func testDelete(w *world) {
	old := blocked(w)
	gone := func() {
		w.Helper()
		require.NoError(w, w.Delete(w.Context(), w.migration(w)))
		w.eventually(func(c *assert.CollectT) {
			require.True(c, apierrors.IsNotFound(w.Get(w.Context(), client.ObjectKey{Name: "old"}, &v1alpha1.NodeMigration{})))
		})
	}
	gone()
	require.Equal(w, old[:1], w.cordoned(w))
	require.Empty(w, w.marked(w))

	w.relax("web")
	w.migrate()
	w.await(v1alpha1.MigrationComplete, v1alpha1.ReasonCompleted)
	gone()
	require.ElementsMatch(w, old, w.cordoned(w))
	require.Empty(w, w.marked(w))
}

func testPaused(w *world) {
	old := w.nodes("old", 2)
	w.deploy("web", 2)
	w.nodes("new", 1)
	w.migrate(func(s *v1alpha1.NodeMigrationSpec) { s.Paused = true })
	paused := w.await(v1alpha1.MigrationPaused, v1alpha1.ReasonUserRequested)
	require.True(w, meta.IsStatusConditionTrue(paused.Status.Conditions, v1alpha1.ConditionPaused))
	require.Empty(w, w.cordoned(w))
	w.change(func(s *v1alpha1.NodeMigrationSpec) { s.Paused = false })
	w.await(v1alpha1.MigrationComplete, v1alpha1.ReasonCompleted)
	require.Empty(w, w.podsOn(w, old...))
}

// testPodsPending has a NodePool, and nobody who launches its nodes.
func testPodsPending(w *world) {
	old := w.nodes("old", 2)
	w.deploy("web", 2*maxPods)
	pool := &karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	pool.Spec.Template.Spec.NodeClassRef = &karpv1.NodeClassReference{Group: "karpenter.k8s.aws", Kind: "EC2NodeClass", Name: "default"}
	pool.Spec.Template.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{}
	pool.Spec.Disruption.ConsolidateAfter = karpv1.MustParseNillableDuration("30s")
	w.create(pool)
	w.migrate(func(s *v1alpha1.NodeMigrationSpec) { s.Timeouts.PodsPending.Duration = time.Second })
	paused := w.await(v1alpha1.MigrationPaused, v1alpha1.ReasonPodsPending)
	require.True(w, meta.IsStatusConditionTrue(paused.Status.Conditions, v1alpha1.ConditionPaused))
	w.requireWarning(v1alpha1.ReasonPodsPending, "has not started within 1s")
	require.Equal(w, old[:1], w.cordoned(w))
	require.Len(w, w.podsOn(w, old[1]), maxPods)

	w.nodes("new", 2) // as if Karpenter had
	w.await(v1alpha1.MigrationComplete, v1alpha1.ReasonCompleted)
	require.Empty(w, w.podsOn(w, old...))
	w.allReady(w.namespace, "web")
}

func testCapacity(w *world) {
	w.nodes("old", 1)
	w.nodes("new", 1)
	network := &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	w.create(network)
	network.StatusConditions().SetFalse(v1alpha1.ConditionCapacityAvailable, "PodSubnetsFull", "no pod subnet has a free /28")
	require.NoError(w, w.Status().Update(w.Context(), network))
	w.migrate()
	w.await(v1alpha1.MigrationPaused, v1alpha1.ReasonPodNetworkCapacity)
	w.requireWarning(v1alpha1.ReasonPodNetworkCapacity, "PodNetwork default takes no further node: no pod subnet has a free /28")
	require.Empty(w, w.cordoned(w))
	network.StatusConditions().SetTrue(v1alpha1.ConditionCapacityAvailable)
	require.NoError(w, w.Status().Update(w.Context(), network))
	w.await(v1alpha1.MigrationComplete, v1alpha1.ReasonCompleted)
}

func testKilled(w *world) {
	old := w.nodes("old", 3)
	w.deploy("web", 6)
	w.budget("web", 0)
	w.nodes("new", 2)
	most := w.watchBudget()
	w.migrate()
	before := w.await(v1alpha1.MigrationWaiting, v1alpha1.ReasonPodDisruptionBudget)
	w.stop()
	w.relax("web")
	w.start()
	w.eventually(func(c *assert.CollectT) { require.NotEmpty(c, w.migration(c).Status.Nodes.Done) })
	w.stop() // and again while it works
	w.start()
	after := w.await(v1alpha1.MigrationComplete, v1alpha1.ReasonCompleted)
	require.Equal(w, before.Status.StartedAt, after.Status.StartedAt)
	require.Equal(w, v1alpha1.MigratedNodes{Total: 3, Done: 3}, after.Status.Nodes)
	require.Equal(w, int32(1), most.Load())
	require.Empty(w, w.podsOn(w, old...))
}

func testRefused(w *world) {
	old := w.nodes("old", 1)
	owned := w.nodes("old", 1, func(m *bootstrap.Machine) { m.Labels[karpv1.NodePoolLabelKey] = "default" })
	w.deploy("web", 4)
	w.migrate(func(s *v1alpha1.NodeMigrationSpec) { s.Paused = true })
	created := w.migration(w).CreationTimestamp
	w.eventually(func(c *assert.CollectT) { require.True(c, time.Now().After(created.Add(time.Second))) }) // the API server's times are in seconds
	young := w.nodes("old", 1)
	w.change(func(s *v1alpha1.NodeMigrationSpec) { s.Paused = false })
	done := w.await(v1alpha1.MigrationComplete, v1alpha1.ReasonCompleted)
	require.Equal(w, v1alpha1.MigratedNodes{Total: 1, Done: 1, Refused: 2}, done.Status.Nodes)
	reasons := map[string]string{}
	for _, node := range done.Status.NodeStatuses {
		reasons[node.Name] = node.Reason
	}
	require.Equal(w, map[string]string{old[0]: "", owned[0]: v1alpha1.ReasonKarpenterOwned, young[0]: v1alpha1.ReasonJoinedLater}, reasons)
	require.Equal(w, old, w.cordoned(w))
}

func testTerminate(w *world) {
	instance := w.launch()
	old := w.nodes("old", 1, func(m *bootstrap.Machine) { m.InstanceID = instance })
	foreign := w.nodes("old", 1, func(m *bootstrap.Machine) { m.InstanceID = "" })
	w.deploy("web", 2)
	w.nodes("new", 1)
	w.migrate(func(s *v1alpha1.NodeMigrationSpec) { s.After = v1alpha1.AfterTerminate })
	waiting := w.await(v1alpha1.MigrationWaiting, v1alpha1.ReasonTerminationFailed)
	require.Equal(w, foreign[0], waiting.Status.Blocked[0].Node)
	require.Contains(w, waiting.Status.Blocked[0].Message, "set spec.after to Leave")
	i := slices.IndexFunc(waiting.Status.NodeStatuses, func(n v1alpha1.NodeMigrationNode) bool { return n.Name == old[0] })
	require.Contains(w, waiting.Status.NodeStatuses[i].Message, "managed node group old starts another one until its desired capacity is lowered")
	for _, found := range w.cloud.Snapshot().Instances {
		require.Contains(w, []string{"shutting-down", "terminated"}, found.State)
	}

	require.NoError(w, w.Delete(w.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: old[0]}})) // as the cloud's node controller does
	w.change(func(s *v1alpha1.NodeMigrationSpec) { s.After = v1alpha1.AfterLeave })
	done := w.await(v1alpha1.MigrationComplete, v1alpha1.ReasonCompleted)
	require.Equal(w, int32(2), done.Status.Nodes.Total)
	require.Equal(w, int32(2), done.Status.Nodes.Done)
}

// testController has a cluster whose only nodes are old ones.
func testController(w *world) {
	old := w.nodes("old", 2)
	w.deploy(account, 1, func(d *appsv1.Deployment) {
		d.Namespace = system
		d.Spec.Template.Spec.ServiceAccountName = account
		d.Spec.Template.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: karpv1.NodePoolLabelKey, Operator: corev1.NodeSelectorOpDoesNotExist}}}},
		}}}
	})
	w.nodes("karpenter", 1, func(m *bootstrap.Machine) { m.Labels[karpv1.NodePoolLabelKey] = "default" })
	w.migrate(func(s *v1alpha1.NodeMigrationSpec) { s.MaxUnavailable = intstr.FromString("100%") })
	waiting := w.await(v1alpha1.MigrationWaiting, v1alpha1.ReasonNoOtherPlace)
	require.Equal(w, v1alpha1.MigratedNodes{Total: 2, Done: 1, Pending: 1}, waiting.Status.Nodes)
	require.Len(w, w.cordoned(w), 1)
	require.Len(w, w.podsOn(w, old...), 1)
	w.requireWarning(v1alpha1.ReasonNoOtherPlace, "no other Ready node could take pod "+system+"/"+account)

	fresh := w.nodes("new", 1)
	w.await(v1alpha1.MigrationComplete, v1alpha1.ReasonCompleted)
	w.allReady(system, account)
	require.Len(w, w.podsOn(w, fresh...), 1)
}

// launch an instance.
func (w *world) launch() (id string) {
	w.Helper()
	vpc, err := w.ec2.CreateVpc(w.Context(), &ec2.CreateVpcInput{CidrBlock: awssdk.String("10.0.0.0/16")})
	require.NoError(w, err)
	subnet, err := w.ec2.CreateSubnet(w.Context(), &ec2.CreateSubnetInput{VpcId: vpc.Vpc.VpcId, CidrBlock: awssdk.String("10.0.0.0/24"), AvailabilityZone: awssdk.String("us-east-1a")})
	require.NoError(w, err)
	images, err := w.ec2.DescribeImages(w.Context(), &ec2.DescribeImagesInput{Owners: []string{"amazon"}, Filters: []ec2types.Filter{
		{Name: awssdk.String("architecture"), Values: []string{"x86_64"}}, {Name: awssdk.String("name"), Values: []string{"amazon-eks-node-al2023-x86_64-standard-1.35-*"}},
	}})
	require.NoError(w, err)
	w.eventually(func(c *assert.CollectT) { // a new subnet is unknown for a while
		out, err := w.ec2.RunInstances(w.Context(), &ec2.RunInstancesInput{
			ImageId: images.Images[0].ImageId, InstanceType: "m5.large", MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1), SubnetId: subnet.Subnet.SubnetId,
		})
		require.NoError(c, err)
		id = awssdk.ToString(out.Instances[0].InstanceId)
	})
	running := ec2.NewInstanceRunningWaiter(w.ec2, func(o *ec2.InstanceRunningWaiterOptions) {
		o.MinDelay, o.MaxDelay = 10*time.Millisecond, 100*time.Millisecond
	})
	require.NoError(w, running.Wait(w.Context(), &ec2.DescribeInstancesInput{InstanceIds: []string{id}}, time.Minute))
	return id
}

// metric sums the series that have these labels.
func (w *world) metric(name string, labels map[string]string) (sum float64) {
	w.Helper()
	families, err := crmetrics.Registry.Gather()
	require.NoError(w, err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, series := range family.GetMetric() {
			matching := 0
			for _, label := range series.GetLabel() {
				if labels[label.GetName()] == label.GetValue() {
					matching++
				}
			}
			if matching == len(labels) {
				sum += series.GetGauge().GetValue()
			}
		}
	}
	return sum
}
