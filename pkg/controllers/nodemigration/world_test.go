// SPDX-License-Identifier: Apache-2.0

package nodemigration_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/record"
	"k8s.io/utils/clock"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/events"

	"github.com/dovetail-dev/dovetail/charts"
	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/nodemigration"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/hollow"
)

const (
	system  = "dovetail-system"
	account = "dovetail-controller"
	// group is the label of the nodes' group.
	group = "eks.amazonaws.com/nodegroup"
	// maxPods of each node.
	maxPods = 10
)

// cluster is a control plane whose nodes are hollow, with the chart's rights for the controller.
type cluster struct {
	config   *rest.Config
	hollow   *hollow.Nodes
	machines int
}

func startCluster(t testing.TB) *cluster {
	t.Helper()
	apis.Register(scheme.Scheme)
	c := &cluster{config: chartstest.StartFull(t)}
	api, err := client.New(c.config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	require.NoError(t, api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: system}}))
	objects, err := charts.Render(charts.Dovetail, charts.Release{Name: "dovetail", Namespace: system, Values: map[string]any{"settings": map[string]any{"clusterName": "test"}}})
	require.NoError(t, err)
	for _, object := range objects {
		if kind := object.GetKind(); kind == "ServiceAccount" || strings.Contains(kind, "Role") {
			require.NoError(t, api.Create(t.Context(), object))
		}
	}
	c.hollow, err = hollow.New(c.config, func(string) bool { return true }, slog.Default())
	require.NoError(t, err)
	go func() { _ = c.hollow.Run(t.Context()) }()
	return c
}

// world is a namespace, nodes and an account for one test.
type world struct {
	testing.TB
	client.Client
	*cluster
	namespace string
	ec2       *ec2.Client
	cloud     *aws.Cloud
	machines  []bootstrap.Machine
	// stop the controller that runs.
	stop func()
}

func (c *cluster) world(t testing.TB) *world {
	t.Helper()
	api, err := client.New(c.config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	w := &world{TB: t, Client: api, cluster: c, cloud: aws.New(aws.Options{Seed: 1}), stop: func() {}}
	server := httptest.NewServer(w.cloud.Handler())
	t.Cleanup(server.Close)
	w.ec2 = ec2.New(ec2.Options{
		Region: "us-east-1", BaseEndpoint: awssdk.String(server.URL), Retryer: awssdk.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider("AKIDEXAMPLE", "secret", ""),
	})
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-"}}
	require.NoError(t, api.Create(t.Context(), namespace))
	w.namespace = namespace.Name
	t.Cleanup(w.clear)
	w.start()
	return w
}

// start a controller with nothing in its memory, as the chart's service account.
func (w *world) start() {
	w.Helper()
	as := rest.CopyConfig(w.config)
	as.Impersonate = rest.ImpersonationConfig{
		UserName: "system:serviceaccount:" + system + ":" + account,
		Groups:   []string{"system:serviceaccounts", "system:serviceaccounts:" + system, "system:authenticated"},
	}
	m, err := controllerruntime.NewManager(as, controllerruntime.Options{
		Scheme: scheme.Scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: config.Controller{SkipNameValidation: awssdk.Bool(true)},
	})
	require.NoError(w, err)
	broadcaster := record.NewBroadcaster()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: kubernetes.NewForConfigOrDie(as).CoreV1().Events("")})
	controller := nodemigration.NewController(nodemigration.Params{
		Client: m.GetClient(), Reader: m.GetAPIReader(), EC2: w.ec2, Clock: clock.RealClock{},
		Recorder: events.NewRecorder(broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: "dovetail"})),
	})
	require.NoError(w, controller.Register(w.Context(), m))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Start(ctx) }()
	w.stop = func() {
		cancel()
		assert.NoError(w, <-done)
		broadcaster.Shutdown()
		w.stop = func() {}
	}
}

// clear leaves the cluster to the next test as it was.
func (w *world) clear() {
	ctx := context.Background() // the test's own has ended
	for _, migration := range w.migrations() {
		require.NoError(w, client.IgnoreNotFound(w.Delete(ctx, &migration)))
	}
	require.EventuallyWithT(w, func(c *assert.CollectT) { assert.Empty(c, w.migrations()) }, time.Minute, 50*time.Millisecond)
	w.stop()
	for _, object := range []client.Object{&v1alpha1.PodNetwork{}, &karpv1.NodePool{}} {
		require.NoError(w, w.DeleteAllOf(ctx, object))
	}
	for _, namespace := range []string{w.namespace, system} {
		for _, object := range []client.Object{&policyv1.PodDisruptionBudget{}, &appsv1.Deployment{}, &appsv1.StatefulSet{}} {
			require.NoError(w, w.DeleteAllOf(ctx, object, client.InNamespace(namespace)))
		}
	}
	require.EventuallyWithT(w, func(c *assert.CollectT) {
		for _, namespace := range []string{w.namespace, system} {
			assert.NoError(c, w.DeleteAllOf(ctx, &corev1.Pod{}, client.InNamespace(namespace), client.GracePeriodSeconds(0)))
			pods := &corev1.PodList{}
			assert.NoError(c, w.List(ctx, pods, client.InNamespace(namespace)))
			assert.Empty(c, pods.Items)
		}
	}, time.Minute, 100*time.Millisecond)
	w.hollow.Set(ctx, nil)
	require.NoError(w, w.DeleteAllOf(ctx, &corev1.Node{}))
}

func (w *world) migrations() []v1alpha1.NodeMigration {
	list := &v1alpha1.NodeMigrationList{}
	require.NoError(w, w.List(context.Background(), list))
	return list.Items
}

func (w *world) create(objects ...client.Object) {
	w.Helper()
	for _, object := range objects {
		require.NoError(w, w.Create(w.Context(), object))
	}
}

// nodes of a group join, and are Ready. They are named after their number, so that the order of their names is that of their making.
func (w *world) nodes(groupName string, count int, change ...func(*bootstrap.Machine)) (names []string) {
	w.Helper()
	for range count {
		w.cluster.machines++
		i := w.cluster.machines
		machine := bootstrap.Machine{
			Identity: bootstrap.Identity{
				InstanceID: fmt.Sprintf("i-%017d", i), InstanceType: "m5.large", Zone: "us-east-1a", Region: "us-east-1",
				Hostname: fmt.Sprintf("node-%03d.ec2.internal", i), IP: netip.AddrFrom4([4]byte{10, 0, byte(i / 256), byte(i)}),
			},
			UserData: bootstrap.UserData{MaxPods: maxPods, Labels: map[string]string{group: groupName}},
			Hardware: bootstrap.Hardware{CPUs: 2, MemoryMiB: 8192, Architecture: "amd64"},
		}
		for _, f := range change {
			f(&machine)
		}
		w.machines = append(w.machines, machine)
		names = append(names, machine.Hostname)
	}
	w.hollow.Set(context.Background(), w.machines)
	w.eventually(func(c *assert.CollectT) {
		for _, name := range names {
			node := &corev1.Node{}
			require.NoError(c, w.Get(w.Context(), client.ObjectKey{Name: name}, node))
			require.Empty(c, node.Spec.Taints)
			require.True(c, ready(node))
		}
	})
	return names
}

func ready(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// deploy replicas and wait until they run.
func (w *world) deploy(name string, replicas int32, change ...func(*appsv1.Deployment)) {
	w.Helper()
	labels := map[string]string{"app": name}
	deployment := &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
				AutomountServiceAccountToken: awssdk.Bool(false), TerminationGracePeriodSeconds: awssdk.Int64(0),
				Containers: []corev1.Container{{Name: "only", Image: "registry.k8s.io/pause:3.10"}},
			}},
		},
	}
	for _, f := range change {
		f(deployment)
	}
	w.create(deployment)
	w.allReady(deployment.Namespace, name)
}

func (w *world) allReady(namespace, name string) {
	w.Helper()
	w.eventually(func(c *assert.CollectT) {
		deployment := &appsv1.Deployment{}
		require.NoError(c, w.Get(w.Context(), client.ObjectKey{Namespace: namespace, Name: name}, deployment))
		require.Equal(c, *deployment.Spec.Replicas, deployment.Status.ReadyReplicas)
	})
}

// budget of a Deployment that lets so many of its pods be away.
func (w *world) budget(name string, maxUnavailable int32) *policyv1.PodDisruptionBudget {
	w.Helper()
	budget := &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace},
		Spec:       policyv1.PodDisruptionBudgetSpec{MaxUnavailable: &intstr.IntOrString{IntVal: maxUnavailable}, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": name}}},
	}
	w.create(budget)
	w.eventually(func(c *assert.CollectT) {
		require.NoError(c, w.Get(w.Context(), client.ObjectKeyFromObject(budget), budget))
		require.Equal(c, budget.Generation, budget.Status.ObservedGeneration)
		require.Equal(c, maxUnavailable, budget.Status.DisruptionsAllowed)
	})
	return budget
}

// allow one disruption.
func (w *world) relax(name string) {
	w.Helper()
	w.update(&policyv1.PodDisruptionBudget{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: w.namespace}}, func(o client.Object) {
		o.(*policyv1.PodDisruptionBudget).Spec.MaxUnavailable = &intstr.IntOrString{IntVal: 1}
	})
}

func (w *world) update(object client.Object, change func(client.Object)) {
	w.Helper()
	w.eventually(func(c *assert.CollectT) {
		require.NoError(c, w.Get(w.Context(), client.ObjectKeyFromObject(object), object))
		change(object)
		require.NoError(c, w.Update(w.Context(), object))
	})
}

// migrate the nodes of group old.
func (w *world) migrate(change ...func(*v1alpha1.NodeMigrationSpec)) {
	w.Helper()
	migration := &v1alpha1.NodeMigration{ObjectMeta: metav1.ObjectMeta{Name: "old"}}
	migration.Spec.NodeSelector.MatchLabels = map[string]string{group: "old"}
	for _, f := range change {
		f(&migration.Spec)
	}
	w.create(migration)
}

func (w *world) change(f func(*v1alpha1.NodeMigrationSpec)) {
	w.Helper()
	w.update(&v1alpha1.NodeMigration{ObjectMeta: metav1.ObjectMeta{Name: "old"}}, func(o client.Object) { f(&o.(*v1alpha1.NodeMigration).Spec) })
}

func (w *world) migration(t require.TestingT) *v1alpha1.NodeMigration {
	migration := &v1alpha1.NodeMigration{}
	require.NoError(t, w.Get(w.Context(), client.ObjectKey{Name: "old"}, migration))
	return migration
}

// await a phase for a reason.
func (w *world) await(phase v1alpha1.MigrationPhase, reason string) *v1alpha1.NodeMigration {
	w.Helper()
	w.eventually(func(c *assert.CollectT) {
		migration := w.migration(c)
		require.Equal(c, phase, migration.Status.Phase, "%+v", migration.Status)
		require.Equal(c, reason, meta.FindStatusCondition(migration.Status.Conditions, v1alpha1.ConditionProgressing).Reason)
		require.Equal(c, migration.Generation, migration.Status.ObservedGeneration)
	})
	return w.migration(w)
}

// cordoned nodes, by name.
func (w *world) cordoned(t require.TestingT) (names []string) {
	list := &corev1.NodeList{}
	require.NoError(t, w.List(w.Context(), list))
	for _, node := range list.Items {
		if node.Spec.Unschedulable {
			names = append(names, node.Name)
		}
	}
	return names
}

// marked nodes, by name: those with the migration's annotation.
func (w *world) marked(t require.TestingT) (names []string) {
	list := &corev1.NodeList{}
	require.NoError(t, w.List(w.Context(), list))
	for _, node := range list.Items {
		if node.Annotations[v1alpha1.AnnotationNodeMigration] != "" {
			names = append(names, node.Name)
		}
	}
	return names
}

// podsOn nodes, of any namespace.
func (w *world) podsOn(t require.TestingT, nodes ...string) (names []string) {
	list := &corev1.PodList{}
	require.NoError(t, w.List(w.Context(), list))
	for _, pod := range list.Items {
		for _, node := range nodes {
			if pod.Spec.NodeName == node {
				names = append(names, pod.Name)
			}
		}
	}
	return names
}

func (w *world) requireWarning(reason, message string) {
	w.Helper()
	w.eventually(func(c *assert.CollectT) {
		list := &corev1.EventList{}
		require.NoError(c, w.List(w.Context(), list, client.InNamespace(metav1.NamespaceDefault)))
		for _, event := range list.Items {
			if event.InvolvedObject.Kind == "NodeMigration" && event.Reason == reason && event.Type == corev1.EventTypeWarning && strings.Contains(event.Message, message) {
				return
			}
		}
		require.Fail(c, "no event", "%s: %s", reason, message)
	})
}

// watchBudget remembers the most nodes that were cordoned and not done at a time.
func (w *world) watchBudget() *atomic.Int32 {
	w.Helper()
	var most atomic.Int32
	watcher, err := kubernetes.NewForConfigOrDie(w.config).CoreV1().Nodes().Watch(w.Context(), metav1.ListOptions{})
	require.NoError(w, err)
	w.Cleanup(watcher.Stop)
	go func() {
		closed := map[string]bool{}
		for e := range watcher.ResultChan() {
			if node, ok := e.Object.(*corev1.Node); ok {
				closed[node.Name] = node.Spec.Unschedulable && !strings.Contains(node.Annotations[v1alpha1.AnnotationNodeMigration], `"drained"`)
			}
			count := int32(0)
			for _, is := range closed {
				if is {
					count++
				}
			}
			most.Store(max(most.Load(), count))
		}
	}()
	return &most
}

// eventually waits for what other processes do. The deadline ends a test that hangs; it is no expectation.
func (w *world) eventually(f func(*assert.CollectT)) {
	w.Helper()
	require.EventuallyWithT(w, f, time.Minute, 50*time.Millisecond)
}
