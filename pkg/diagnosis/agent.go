// SPDX-License-Identifier: Apache-2.0

package diagnosis

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// Labels of the pods that give addresses on a node: the chart's, and aws-node's.
var (
	agentLabels  = client.MatchingLabels{"app.kubernetes.io/name": "dovetail", "app.kubernetes.io/component": "agent"}
	vpcCNILabels = client.MatchingLabels{"k8s-app": "aws-node"}
)

const (
	// agentContainer is the agent's name in the chart.
	agentContainer = "agent"
	// agentProgram is where ko, which makes the images, puts the agent.
	agentProgram = "/ko-app/agent"
)

// AgentPod gives addresses on a node: the node agent's pod, or aws-node's, nil for none. Of several, one that is ready.
func AgentPod(ctx context.Context, c client.Reader, node *corev1.Node) (found *corev1.Pod, err error) {
	serving := agentLabels
	if podnetwork.AgentOn(node) == v1alpha1.AgentVPCCNI {
		serving = vpcCNILabels
	}
	agents := &corev1.PodList{}
	if _, err := cli.List(ctx, c, agents, client.MatchingFields{"spec.nodeName": node.Name}, serving); err != nil {
		return nil, err
	}
	for i := range agents.Items {
		if found == nil || ready(&agents.Items[i]) {
			found = &agents.Items[i]
		}
	}
	return found, nil
}

// StatusCommand is what asks the agent of a node for its status, as JSON, in the agent's own pod. An error says why nobody can be asked.
func StatusCommand(node *corev1.Node, agent *corev1.Pod) (cli.Command, error) {
	name := node.Labels[v1alpha1.LabelPodNetwork]
	switch {
	case name == "":
		return cli.Command{}, fmt.Errorf("node %s is on no pod network, and so has no node agent: it has no label %s", node.Name, v1alpha1.LabelPodNetwork)
	case podnetwork.AgentOn(node) == v1alpha1.AgentVPCCNI:
		return cli.Command{}, fmt.Errorf("node %s has its addresses from aws-node (agent: VPCCNI), which tells no status: see kubectl -n kube-system logs -l k8s-app=aws-node --field-selector spec.nodeName=%s", node.Name, node.Name)
	case agent == nil:
		return cli.Command{}, fmt.Errorf("no pod of the node agent is on node %s: kubectl dovetail doctor says what keeps it away", node.Name)
	}
	running := slices.ContainsFunc(agent.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool { return c.Name == agentContainer && c.State.Running != nil })
	at := slices.IndexFunc(agent.Spec.Containers, func(c corev1.Container) bool { return c.Name == agentContainer })
	switch {
	case at < 0:
		return cli.Command{}, fmt.Errorf("pod %s/%s has no container %s: it is not of the chart dovetail", agent.Namespace, agent.Name, agentContainer)
	case !running:
		return cli.Command{}, fmt.Errorf("the node agent on node %s does not run: %s; see kubectl -n %s logs %s", node.Name, containerTrouble(agent), agent.Namespace, agent.Name)
	}
	program := agent.Spec.Containers[at].Command
	if len(program) == 0 {
		program = []string{agentProgram}
	}
	return cli.Command{Namespace: agent.Namespace, Pod: agent.Name, Container: agentContainer, Args: slices.Concat(program, []string{"status", "-o", "json"})}, nil
}
