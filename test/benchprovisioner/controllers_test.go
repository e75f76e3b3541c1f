// SPDX-License-Identifier: Apache-2.0

package benchprovisioner

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/sandbox"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/bootstrap"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/hollow"
)

// controllerFigure is what a controller's process took for its nodes.
type controllerFigure struct {
	Name  string `json:"name"`
	Nodes int    `json:"nodes"`
	Pods  int    `json:"pods"`
	// Resident set, bytes: the median of those with nothing to do, before the first pod, and the one after the last runs.
	Idle int64 `json:"idleBytes"`
	RSS  int64 `json:"rssBytes"`
	// Ratios to upstream's.
	IdleRatio float64 `json:"idleRatio"`
	Ratio     float64 `json:"ratio"`
	// Calls of EC2's operations a node, from the first pod until the last runs. What the controller asks at intervals is in them.
	Calls map[string]float64 `json:"callsANode"`
}

// runControllers runs the built controllers one after the other, each on a cluster and an account of its own, whose nodes exist in
// the control plane only.
func runControllers(t *testing.T, done func(controllerFigure)) {
	var upstream controllerFigure
	for _, c := range []struct {
		name, program string
		network       *v1alpha1.PodNetwork
	}{
		{"upstream", "upstream-controller", nil},
		{"Dovetail, dynamic", "controller", &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "pods"}}},
		{"Dovetail, static", "controller", &v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "pods"}, Spec: v1alpha1.PodNetworkSpec{
			Addressing: v1alpha1.Addressing{Allocation: v1alpha1.AllocationStatic},
		}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := runController(t, c.program, c.network)
			f.Name = c.name
			switch {
			case c.network == nil:
				upstream = f
			case upstream.RSS > 0:
				f.IdleRatio, f.Ratio = float64(f.Idle)/float64(upstream.Idle), float64(f.RSS)/float64(upstream.RSS)
			}
			done(f)
		})
	}
}

func runController(t *testing.T, program string, network *v1alpha1.PodNetwork) controllerFigure {
	ctx := t.Context()
	cluster := chartstest.StartFull(t)
	c, err := client.New(cluster, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	a := newAccount(t, simulator.Fast())
	keepHollowNodes(t, a, cluster)
	class := nodeClass("default", a)
	require.NoError(t, c.Create(ctx, class))
	if network != nil {
		for _, zone := range zones {
			require.NoError(t, c.Create(ctx, eniConfig(zone, a.podSubnets[zone])))
		}
		require.NoError(t, c.Create(ctx, network.DeepCopy()))
	}
	pool := nodePool(class.Name)
	pool.Spec.Template.Spec.Requirements = []karpv1.NodeSelectorRequirementWithMinValues{
		{Key: corev1.LabelInstanceTypeStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"m5.large"}}, // so that the pods need that many nodes
		{Key: karpv1.CapacityTypeLabelKey, Operator: corev1.NodeSelectorOpIn, Values: []string{karpv1.CapacityTypeOnDemand}},
	}
	pool.Spec.Disruption = karpv1.Disruption{ConsolidationPolicy: karpv1.ConsolidationPolicyWhenEmpty, ConsolidateAfter: karpv1.MustParseNillableDuration("Never")}
	require.NoError(t, c.Create(ctx, pool))

	door := a.serve(t)
	pid := start(t, program, kubeconfig(t, cluster), door.url)
	require.Eventually(t, func() bool {
		require.NoError(t, c.Get(ctx, client.ObjectKeyFromObject(pool), pool))
		return pool.StatusConditions().Root().IsTrue()
	}, 2*time.Minute, time.Second, "the NodePool is not ready")
	f := controllerFigure{Nodes: *nodes, Pods: *nodes * *podsPerNode, Idle: idleSet(t, pid)}
	door.reset()
	for wave := 0; wave < *nodes; wave += nodesPerWave {
		require.NoError(t, c.Create(ctx, deployment(wave, min(nodesPerWave, *nodes-wave))))
		there := min(wave+nodesPerWave, *nodes)
		waitForPods(ctx, t, c, there**podsPerNode)
		t.Logf("%d of %d nodes run their pods, resident set %d MB", there, *nodes, residentSet(t, pid)>>20)
	}
	made, _ := door.reset()
	f.Calls = map[string]float64{}
	for name, n := range made {
		f.Calls[name] = float64(n) / float64(*nodes)
	}
	launched := &corev1.NodeList{}
	require.NoError(t, c.List(ctx, launched, client.HasLabels{karpv1.NodePoolLabelKey}))
	require.Len(t, launched.Items, *nodes)
	f.RSS = residentSet(t, pid)
	return f
}

// nodesPerWave bounds the pods that the scheduler tries again for each node that comes.
const nodesPerWave = 100

// keepHollowNodes makes a node of each instance of the account that runs.
func keepHollowNodes(t *testing.T, a *account, cluster *rest.Config) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	kept, err := hollow.New(cluster, func(string) bool { return true }, log)
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var all sync.WaitGroup
	all.Go(func() { assert.NoError(t, kept.Run(ctx)) })
	changes := a.cloud.Changed()
	all.Go(func() {
		machines := map[string]bootstrap.Machine{}
		for {
			select {
			case <-ctx.Done():
				return
			case <-changes:
			}
			var running []bootstrap.Machine
			for _, instance := range a.cloud.Snapshot().Instances {
				if instance.State != "running" {
					continue
				}
				machine, known := machines[instance.ID]
				if !known {
					if machine, err = sandbox.MachineOf(instance); !assert.NoError(t, err) {
						return
					}
					machines[instance.ID] = machine
				}
				running = append(running, machine)
			}
			kept.Set(ctx, running)
		}
	})
	t.Cleanup(func() {
		stop()
		all.Wait()
	})
}

// start the built program as a container of its chart runs it.
func start(t *testing.T, program, kubeconfig, endpoint string) (pid int) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	require.NoError(t, err)
	cmd := exec.Command(filepath.Join(controlplanetest.BinDir(), program)) //nolint:gosec // a built program
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), "AWS_ENDPOINT_URL="+endpoint)
	for key, value := range environment(kubeconfig) {
		cmd.Env = append(cmd.Env, key+"="+value)
	}
	require.NoError(t, cmd.Start(), "make bench-provisioner builds it")
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // ended by the signal
		if t.Failed() {
			content, _ := os.ReadFile(log.Name())
			t.Logf("%s:\n%s", program, content[max(0, len(content)-4000):])
		}
	})
	return cmd.Process.Pid
}

// residentSet of a process, in bytes.
func residentSet(t *testing.T, pid int) int64 {
	t.Helper()
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(t, err)
	for line := range strings.Lines(string(content)) {
		if value, found := strings.CutPrefix(line, "VmRSS:"); found {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			require.NoError(t, err)
			return kib << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// idleSet is the median of the resident sets in the time of -idle. What a controller reads as it starts, the runtime gives back over
// minutes; one look would find any of the sizes between.
func idleSet(t *testing.T, pid int) int64 {
	t.Helper()
	var sizes []int64
	for end := time.Now().Add(*idle); len(sizes) == 0 || time.Now().Before(end); time.Sleep(time.Second) {
		sizes = append(sizes, residentSet(t, pid))
	}
	slices.Sort(sizes)
	return sizes[len(sizes)/2]
}

// patience with a cluster in which no further pod comes to run: machines differ, and are busy.
const patience = 10 * time.Minute

func waitForPods(ctx context.Context, t *testing.T, c client.Client, wanted int) {
	t.Helper()
	for most, since := 0, time.Now(); ; time.Sleep(time.Second) {
		list := &appsv1.DeploymentList{}
		require.NoError(t, c.List(ctx, list))
		ready := 0
		for i := range list.Items {
			ready += int(list.Items[i].Status.ReadyReplicas)
		}
		if ready >= wanted {
			return
		}
		if ready > most {
			most, since = ready, time.Now()
		}
		require.Less(t, time.Since(since), patience, "%d of %d pods run, and no further one", ready, wanted)
	}
}

// deployment fills that many nodes: an m5.large has 1,930 mCPU for pods.
func deployment(wave, nodes int) *appsv1.Deployment {
	labels := map[string]string{"app": fmt.Sprint("wave-", wave)}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: corev1.NamespaceDefault, Name: labels["app"]},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To(int32(nodes * *podsPerNode)), Selector: &metav1.LabelSelector{MatchLabels: labels}, //nolint:gosec // thousands
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{Containers: []corev1.Container{{
				Name: "pause", Image: "registry.k8s.io/pause:3.10", Resources: corev1.ResourceRequirements{Requests: corev1.ResourceList{
					corev1.ResourceCPU: *resource.NewMilliQuantity(int64(1800 / *podsPerNode), resource.DecimalSI),
				}},
			}}}},
		},
	}
}
