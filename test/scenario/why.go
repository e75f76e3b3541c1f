// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	karpenteraws "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/diagnosis"
)

// Why is what `kubectl dovetail why` answers about a pod.
type Why struct {
	diagnosis.Answer
	Printed string
}

// WaitWhy waits until `kubectl dovetail why` names a cause, in a sentence that mentions all of the words.
func (s *Sandbox) WaitWhy(ctx context.Context, pod string, cause diagnosis.Cause, words ...string) (why Why, err error) {
	err = until(ctx, fmt.Sprintf("why names %s as the cause of pod %s", cause, pod), func(ctx context.Context) error {
		out, err := s.Kubectl(ctx, "why", pod, "-o", "json")
		if err != nil {
			return err
		}
		why = Why{}
		if err := json.Unmarshal([]byte(out), &why.Answer); err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if why.Cause() != cause || slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(why.Findings[0].Message, word) }) {
			return fmt.Errorf("it names %s", out)
		}
		var printed strings.Builder
		why.Print(&printed)
		why.Printed = printed.String()
		return nil
	})
	return why, err
}

// Lonely makes a pod of the scenario's own, and returns what deletes it.
func (s *Sandbox) Lonely(ctx context.Context, name string, selector map[string]string) (end func(context.Context) error, err error) {
	pod := newPod(podParams{Name: name, NodeSelector: selector, CPU: "10m"})
	return func(ctx context.Context) error { return s.deletePods(ctx, []*corev1.Pod{pod}) }, s.Kube.Create(ctx, pod)
}

// PodOf a workload, by name: one that has no address.
func (s *Sandbox) PodOf(ctx context.Context, workload Workload) (string, error) {
	pods := &corev1.PodList{}
	if err := s.Kube.List(ctx, pods, client.InNamespace(workload.Key.Namespace), workload.Selector); err != nil {
		return "", err
	}
	return withoutAddress(pods.Items)
}

func withoutAddress(pods []corev1.Pod) (string, error) {
	for i := range pods {
		if pods[i].Status.PodIP == "" && pods[i].DeletionTimestamp == nil {
			return pods[i].Name, nil
		}
	}
	return "", errors.New("every pod has an address")
}

// Machines are nodes of NodePools that make nothing else, each with a pod.
type Machines struct {
	s           *Sandbox
	launches    []launch
	nodeClasses []*karpenteraws.EC2NodeClass
	// nodes by the name of their NodePool.
	nodes map[string]Node
}

// Machine asks for one node.
type Machine struct {
	Name string
	// MaxPods is the kubelet's, where it is not 0.
	MaxPods int32
	// CPULimit of the NodePool, where it is not "".
	CPULimit string
}

// Launch asks for a machine and waits for nothing.
func (m *Machines) Launch(ctx context.Context, machine Machine) error {
	params := launchParams{Name: machine.Name, Requirements: requirements{corev1.LabelInstanceTypeStable: {"m5.large"}}, CPULimit: machine.CPULimit}
	if machine.MaxPods > 0 {
		example, err := m.s.exampleNodeClass(ctx)
		if err != nil {
			return err
		}
		nodeClass := &karpenteraws.EC2NodeClass{ObjectMeta: metav1.ObjectMeta{Name: machine.Name}, Spec: *example.Spec.DeepCopy()}
		nodeClass.Spec.Kubelet = &karpenteraws.KubeletConfiguration{MaxPods: &machine.MaxPods}
		if err := m.s.Kube.Create(ctx, nodeClass); err != nil {
			return fmt.Errorf("creating EC2NodeClass %s: %w", machine.Name, err)
		}
		m.nodeClasses = append(m.nodeClasses, nodeClass)
		params.NodeClass = nodeClass.Name
	}
	one, err := m.s.launch(ctx, params)
	m.launches = append(m.launches, one)
	return err
}

// Machines has none yet. End deletes all that will be.
func (s *Sandbox) Machines() *Machines { return &Machines{s: s, nodes: map[string]Node{}} }

// End the machines.
func (m *Machines) End(ctx context.Context) error {
	problems := []error{m.s.endLaunches(ctx, m.launches)}
	for _, nodeClass := range m.nodeClasses {
		problems = append(problems, client.IgnoreNotFound(m.s.Kube.Delete(ctx, nodeClass)))
	}
	return errors.Join(problems...)
}

// Wait until the machines' nodes run their pods.
func (m *Machines) Wait(ctx context.Context) error {
	var pods []*corev1.Pod
	for _, one := range m.launches {
		pods = append(pods, one.pod)
	}
	pods, err := m.s.waitPods(ctx, pods)
	if err != nil {
		return err
	}
	nodes, err := m.s.Nodes(ctx)
	if err != nil {
		return err
	}
	for i, pod := range pods {
		at := slices.IndexFunc(nodes, func(n Node) bool { return n.Name == pod.Spec.NodeName })
		if at < 0 {
			return fmt.Errorf("pod %s is on %s, which is no node of a pod network", pod.Name, pod.Spec.NodeName)
		}
		m.nodes[m.launches[i].pool.Name] = nodes[at]
	}
	return nil
}

// Node of a machine.
func (m *Machines) Node(name string) Node { return m.nodes[name] }

// Crowd starts so many pods on a machine, which are to be beyond what it takes, and returns the name of one that waits.
func (m *Machines) Crowd(ctx context.Context, name string, pods int) (waiting string, end func(context.Context) error, err error) {
	created, err := m.s.createPods(ctx, "crowd-"+name, m.nodes[name].Name, pods)
	end = func(ctx context.Context) error { return m.s.deletePods(ctx, created) }
	if err != nil {
		return "", end, err
	}
	err = until(ctx, fmt.Sprintf("all but a few of %d pods on %s run", pods, name), func(ctx context.Context) error {
		list := &corev1.PodList{}
		if err := m.s.Kube.List(ctx, list, client.InNamespace(namespace), client.HasLabels{probeLabel}); err != nil {
			return err
		}
		list.Items = slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return !strings.HasPrefix(p.Name, "crowd-"+name+"-") })
		slices.SortFunc(list.Items, func(a, b corev1.Pod) int { return strings.Compare(b.Name, a.Name) })
		if waiting, err = withoutAddress(list.Items); err != nil {
			return err
		}
		if left := len(slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return p.Status.PodIP != "" })); left > beyond {
			return fmt.Errorf("%d have no address", left)
		}
		return nil
	})
	return waiting, end, err
}

// beyond is how many pods a crowd has that a machine does not take.
const beyond = 3

// BeyondAddresses is the size of a crowd for which a machine has not addresses enough, unless it gets more.
func (m *Machines) BeyondAddresses(ctx context.Context, name string) (int, error) {
	return m.s.beyondAddresses(ctx, m.nodes[name], beyond)
}

// BreakAgents gives the node agents a setting with which they do not start, as a bad upgrade does, lets that reach one machine,
// and returns what takes it back.
func (m *Machines) BreakAgents(ctx context.Context, name string) (mend func(context.Context) error, err error) {
	mine := client.MatchingLabels{"app.kubernetes.io/name": "dovetail", "app.kubernetes.io/component": "agent"}
	agents := &appsv1.DaemonSetList{}
	if err := m.s.Kube.List(ctx, agents, client.MatchingLabels{"app.kubernetes.io/name": "dovetail"}); err != nil {
		return nil, err
	}
	if len(agents.Items) != 1 {
		return nil, fmt.Errorf("there are %d DaemonSets of node agents", len(agents.Items))
	}
	good := agents.Items[0].Spec.Template.Spec.Containers[0].Env
	set := func(ctx context.Context, env []corev1.EnvVar) error {
		daemonSet := &appsv1.DaemonSet{}
		if err := m.s.Kube.Get(ctx, client.ObjectKeyFromObject(&agents.Items[0]), daemonSet); err != nil {
			return err
		}
		before := daemonSet.DeepCopy()
		daemonSet.Spec.Template.Spec.Containers[0].Env = env
		if err := m.s.Kube.Patch(ctx, daemonSet, client.StrategicMergeFrom(before)); err != nil {
			return err
		}
		pods := &corev1.PodList{} // which node an update begins with is not said
		if err := m.s.Kube.List(ctx, pods, client.InNamespace(daemonSet.Namespace), mine, client.MatchingFields{"spec.nodeName": m.nodes[name].Name}); err != nil {
			return err
		}
		for i := range pods.Items {
			if err := client.IgnoreNotFound(m.s.Kube.Delete(ctx, &pods.Items[i])); err != nil {
				return err
			}
		}
		return nil
	}
	bad := slices.Clone(good)
	at := slices.IndexFunc(bad, func(v corev1.EnvVar) bool { return v.Name == "METRICS_ADDRESS" })
	if at < 0 {
		return nil, errors.New("the chart sets no METRICS_ADDRESS")
	}
	bad[at].Value = "nowhere"
	return func(ctx context.Context) error { return set(ctx, good) }, set(ctx, bad)
}

// Throttle gives calls of EC2 no room in the request bucket, and returns what ends that.
func (s *Sandbox) Throttle(ctx context.Context, actions ...string) (end func(context.Context) error, err error) {
	var faults []string
	end = func(ctx context.Context) error {
		var problems []error
		for _, fault := range faults {
			_, err := s.Dovetail(ctx, "fault", "clear", fault)
			problems = append(problems, err)
		}
		faults = nil
		return errors.Join(problems...)
	}
	for _, action := range actions {
		out, err := s.Dovetail(ctx, "fault", "add", "throttle", action, "--capacity", "0", "--refill", "0", "-o", "json")
		if err != nil {
			return end, err
		}
		fault, err := faultID(out)
		if err != nil {
			return end, err
		}
		faults = append(faults, fault)
	}
	return end, nil
}
