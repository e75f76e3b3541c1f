// SPDX-License-Identifier: Apache-2.0

package controlplane_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

func TestControllersTurnADeploymentIntoPods(t *testing.T) {
	client := kubernetes.NewForConfigOrDie(controlplanetest.StartFull(t).RESTConfig())
	labels := map[string]string{"app": "web"}
	replicas := int32(2)
	_, err := client.AppsV1().Deployments("default").Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Image: "web"}}},
			},
		},
	}, metav1.CreateOptions{})
	require.NoError(t, err)

	require.EventuallyWithT(t, func(c *assert.CollectT) {
		pods, err := client.CoreV1().Pods("default").List(t.Context(), metav1.ListOptions{})
		require.NoError(c, err)
		require.Len(c, pods.Items, 2)
		for _, pod := range pods.Items {
			// The scheduler looked at it, and there is no node.
			require.NotEmpty(c, pod.Status.Conditions)
			require.Equal(c, corev1.PodReasonUnschedulable, pod.Status.Conditions[0].Reason)
		}
	}, time.Minute, 100*time.Millisecond)
}

func TestANodeMayOnlyChangeItself(t *testing.T) {
	cp := controlplanetest.StartFull(t)
	kubeconfig, err := cp.NodeKubeconfig(cp.RESTConfig().Host, "ip-10-0-0-12.ec2.internal")
	require.NoError(t, err)
	config, err := clientcmd.RESTConfigFromKubeConfig(kubeconfig)
	require.NoError(t, err)
	nodes := kubernetes.NewForConfigOrDie(config).CoreV1().Nodes()

	node := func(name string) *corev1.Node { return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}} }
	_, err = nodes.Create(t.Context(), node("ip-10-0-0-12.ec2.internal"), metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = nodes.Create(t.Context(), node("ip-10-0-0-13.ec2.internal"), metav1.CreateOptions{})
	require.True(t, apierrors.IsForbidden(err), "%v", err)
}

func TestTheServerKnowsItsVersion(t *testing.T) {
	config := controlplanetest.Start(t)
	version, err := kubernetes.NewForConfigOrDie(config).Discovery().ServerVersion()
	require.NoError(t, err)
	require.Equal(t, controlplane.Version, version.Major+"."+version.Minor)
}

func TestAMissingProgramIsNamedWithTheCommandThatBuildsIt(t *testing.T) {
	_, err := controlplane.Start(t.Context(), controlplane.Options{Dir: t.TempDir(), BinDir: t.TempDir()})
	require.ErrorContains(t, err, "etcd")
	require.ErrorContains(t, err, "make controlplane")
	require.ErrorIs(t, controlplane.CheckBuilt(t.TempDir()), controlplane.ErrNotBuilt)
}

func TestTheControlPlaneSurvivesOutagesOfItsComponents(t *testing.T) {
	cp := controlplanetest.StartFull(t)
	config := cp.RESTConfig()
	config.Timeout = time.Second // a component that stands still answers nobody
	maps := kubernetes.NewForConfigOrDie(config).CoreV1().ConfigMaps("default")
	write := func() error {
		_, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "outage-"}}, metav1.CreateOptions{})
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- cp.Wait(t.Context()) }()
	before, err := maps.Create(t.Context(), &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Name: "before"}}, metav1.CreateOptions{})
	require.NoError(t, err)
	for _, name := range []string{"apiserver", "etcd"} {
		c := cp.Components()[name]
		for _, outage := range []struct {
			name       string
			begin, end func() error
		}{{"pause", c.Pause, c.Resume}, {"stop", c.Stop, c.Start}} {
			t.Run(name+" "+outage.name, func(t *testing.T) {
				require.NoError(t, outage.begin())
				require.Error(t, write())
				require.NoError(t, outage.end())
				require.EventuallyWithT(t, func(collect *assert.CollectT) {
					after, err := maps.Get(t.Context(), "before", metav1.GetOptions{})
					require.NoError(collect, err)
					require.Equal(collect, before.UID, after.UID, "the data is still there")
					require.NoError(collect, write())
				}, time.Minute, 200*time.Millisecond)
				select {
				case err := <-ended:
					require.Fail(t, "the control plane ended", "%v", err)
				default:
				}
			})
		}
	}
}

func TestAComponentThatEndsUnaskedIsStartedAgainUntilItIsBroken(t *testing.T) {
	cp := controlplanetest.StartFull(t)
	scheduler := cp.Components()["scheduler"]
	require.Error(t, scheduler.Start(), "it runs")
	ended := make(chan error, 1)
	go func() { ended <- cp.Wait(t.Context()) }()
	for killed := 0; ; {
		select {
		case err := <-ended:
			require.ErrorContains(t, err, "kube-scheduler")
			return
		default:
		}
		if pid := scheduler.PID(); pid != killed {
			require.NoError(t, syscall.Kill(pid, syscall.SIGKILL))
			killed = pid
		}
		time.Sleep(10 * time.Millisecond)
	}
}
