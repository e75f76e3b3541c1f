// SPDX-License-Identifier: Apache-2.0

package controlplane_test

import (
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
	}, 30*time.Second, 100*time.Millisecond)
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
