// SPDX-License-Identifier: Apache-2.0

package diagnosis_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/diagnosis"
)

func TestHowANodesAgentIsAsked(t *testing.T) {
	runs := func(command ...string) *corev1.Pod {
		p := agent(corev1.ConditionTrue)
		p.Namespace = "dovetail-system"
		p.Spec.Containers = []corev1.Container{{Name: "sidecar", Command: []string{"/other"}}, {Name: "agent", Command: command}}
		p.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: "agent", State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}}
		return p
	}
	in := cli.Command{Namespace: "dovetail-system", Pod: "dovetail-agent-1", Container: "agent"}
	for name, test := range map[string]struct {
		node  *corev1.Node
		agent *corev1.Pod
		args  string
		says  string
	}{
		"of an image of ko":                {node(), runs(), "/ko-app/agent status -o json", ""},
		"of an image with another program": {node(), runs("/sbin/tini", "/bin/agent"), "/sbin/tini /bin/agent status -o json", ""},
		"it is not ready, and may say why": {node(), func() *corev1.Pod { p := runs(); p.Status.Conditions[0].Status = corev1.ConditionFalse; return p }(), "/ko-app/agent status -o json", ""},
		"a node of no pod network":         {func() *corev1.Node { n := node(); n.Labels = nil; return n }(), runs(), "", "node n1 is on no pod network"},
		"aws-node serves it":               {func() *corev1.Node { n := node(); n.Labels[v1alpha1.LabelAgent] = "VPCCNI"; return n }(), runs(), "", "addresses from aws-node"},
		"there is no agent":                {node(), nil, "", "no pod of the node agent is on node n1"},
		"it crashes":                       {node(), func() *corev1.Pod { p := agent(corev1.ConditionFalse); p.Spec.Containers[0].Name = "agent"; return p }(), "", "does not run: container agent: CrashLoopBackOff"},
		"it is another program's pod":      {node(), pod(on("n1")), "", "has no container agent"},
	} {
		t.Run(name, func(t *testing.T) {
			command, err := diagnosis.StatusCommand(test.node, test.agent)
			if test.says != "" {
				require.ErrorContains(t, err, test.says)
				return
			}
			require.NoError(t, err)
			want := in
			want.Args = strings.Fields(test.args)
			require.Equal(t, want, command)
		})
	}
}
