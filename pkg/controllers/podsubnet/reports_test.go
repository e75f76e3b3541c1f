// SPDX-License-Identifier: Apache-2.0

package podsubnet_test

import (
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	controllerconfig "sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/dovetail-dev/dovetail/charts/chartstest"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/controllers/podsubnet"
)

func TestAPodSubnetThatHasRefusedANodeTakesNoFurtherNodes(t *testing.T) {
	config := chartstest.StartAPIServer(t)
	c, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	require.NoError(t, err)
	v := newVPC(t)
	one, two, three := v.subnet("100.64.0.0/24"), v.subnet("100.64.1.0/24"), v.subnet("100.64.2.0/24")
	reader := v.reader(clock.RealClock{})
	m, err := manager.New(config, manager.Options{
		Scheme: scheme.Scheme, Metrics: metricsserver.Options{BindAddress: "0"},
		Controller: controllerconfig.Controller{SkipNameValidation: awssdk.Bool(true)}, // go test -count
	})
	require.NoError(t, err)
	require.NoError(t, podsubnet.NewController(podsubnet.Params{Client: m.GetClient(), Reader: reader, Clock: clock.RealClock{}}).Register(t.Context(), m))
	require.NoError(t, reader.Ensure(t.Context(), one, two, three))
	stopped := make(chan error, 1)
	ctx := t.Context()
	go func() { stopped <- m.Start(ctx) }()
	t.Cleanup(func() { require.NoError(t, <-stopped) })
	require.Eventually(t, func() bool { return v.calls.of("DescribeNetworkInterfaces") >= 2 }, time.Minute, time.Millisecond, "the controller's first reading")

	node := func(name, subnet string, at time.Time, labels map[string]string) *corev1.Node {
		refusal := v1alpha1.PodSubnetRefusal{Subnet: subnet, Code: "InsufficientCidrBlocks", At: at}
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, Annotations: map[string]string{v1alpha1.AnnotationPodSubnetRefused: refusal.String()}}}
	}
	onNetwork := map[string]string{v1alpha1.LabelPodNetwork: "default"}
	require.NoError(t, c.Create(t.Context(), node("elsewhere", two, time.Now(), nil)))
	require.NoError(t, c.Create(t.Context(), node("before-the-reading", three, reader.Ledger.Snapshot(three).Read.Add(-time.Second), onNetwork)))
	spoiled := node("spoiled", "", time.Now(), onNetwork)
	require.NoError(t, c.Create(t.Context(), spoiled))
	refused := func(subnet string) func() bool {
		return func() bool { return reader.Ledger.Room(subnet).Refused == "InsufficientCidrBlocks" }
	}
	require.NoError(t, c.Create(t.Context(), node("refused", one, time.Now(), onNetwork)))
	require.Eventually(t, refused(one), time.Minute, 10*time.Millisecond)
	require.False(t, refused(two)(), "that node is on no pod network")
	require.False(t, refused(three)(), "the reading knows better")

	running := spoiled
	running.Annotations[v1alpha1.AnnotationPodSubnetRefused] = v1alpha1.PodSubnetRefusal{Subnet: two, Code: "InsufficientCidrBlocks", At: time.Now()}.String()
	require.NoError(t, c.Update(t.Context(), running))
	require.Eventually(t, refused(two), time.Minute, 10*time.Millisecond, "a node that runs says it too")
}
