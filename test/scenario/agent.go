// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// agentProgram is the base name of the node agent's binary.
const agentProgram = "agent"

// AgentKill is what happened around the agent's end.
type AgentKill struct {
	Node string
	// Published are the prefixes in the pool that the agent had published before.
	Published []netip.Prefix
	// Killed are the agent's processes, in order: the one that ran, and its successors while it was kept away.
	Killed []string
	// Existing are connections of pods that ran before, tried while the agent was away.
	Existing []Probe
	// NewPod got NewAddress while the agent was away; New are its connections.
	NewPod     string
	NewAddress netip.Addr
	New        []Probe
	// Returned is the agent's process afterwards.
	Returned string
	// Lost are kernel facts (rules, routes, nftables) from before the kill that the returned agent did not leave alone.
	Lost []string
}

// Check returns what is wrong.
func (k AgentKill) Check() error {
	problems := []error{CheckProbes(k.Existing), CheckProbes(k.New)}
	if len(k.Killed) == 0 {
		problems = append(problems, errors.New("no agent was killed"))
	}
	if !slices.ContainsFunc(k.Published, func(prefix netip.Prefix) bool { return prefix.Contains(k.NewAddress) }) {
		problems = append(problems, fmt.Errorf("the new pod's address %s was not in the pool that the agent had published: %v", k.NewAddress, k.Published))
	}
	if k.Returned == "" || slices.Contains(k.Killed, k.Returned) {
		problems = append(problems, errors.New("the agent did not come back"))
	}
	if len(k.Lost) > 0 {
		problems = append(problems, fmt.Errorf("the returned agent changed what was right; gone are:\n%s", strings.Join(k.Lost, "\n")))
	}
	return errors.Join(problems...)
}

// KillAgent kills the agent of a node with SIGKILL and keeps it dead while it tries the network of pods that run, starts
// another pod and tries its network; then it lets the agent come back and compares the kernel's state. The node is one
// with two pods of the workload.
func (s *Sandbox) KillAgent(ctx context.Context, workload Workload, node Node) (result AgentKill, err error) {
	result = AgentKill{Node: node.Name}
	sites, err := s.sites(ctx, workload, []Node{node})
	if err != nil {
		return result, err
	}
	if len(sites) == 0 || len(sites[0].pods) < 2 {
		return result, fmt.Errorf("node %s has less than two pods of the workload", node.Name)
	}
	stop, err := s.listenEverywhere(ctx, sites)
	defer stop()
	if err != nil {
		return result, err
	}
	before, err := s.kernel(ctx, node)
	if err != nil {
		return result, err
	}
	if result.Published, err = s.pool(ctx, node); err != nil {
		return result, err
	}
	release, err := s.holdAgent(ctx, node)
	if err != nil {
		return result, err
	}
	held := true
	defer func() {
		if held {
			_, _ = release() // something else has failed already
		}
	}()
	if result.Existing, err = s.probesOf(ctx, sites[0], sites[0].dialler()); err != nil {
		return result, err
	}
	var pods []*corev1.Pod
	defer cleanup(ctx, &err, func(ctx context.Context) error { return s.deletePods(ctx, pods) })
	started, err := s.startPods(ctx, "agent-away", node.Name, 1, &pods)
	if err != nil {
		return result, fmt.Errorf("a new pod while the agent is away: %w", err)
	}
	result.NewPod = started[0].Name
	if result.NewAddress, err = podAddress(started[0]); err != nil {
		return result, err
	}
	if result.New, err = s.probesOf(ctx, sites[0], started[0]); err != nil {
		return result, err
	}
	held = false
	if result.Killed, err = release(); err != nil {
		return result, err
	}
	if result.Returned, err = s.waitAgent(ctx, node, result.Killed); err != nil {
		return result, err
	}
	// By the time another pod has its network, the agent has looked at the kernel's state.
	if _, err := s.startPods(ctx, "agent-back", node.Name, 1, &pods); err != nil {
		return result, fmt.Errorf("a new pod after the agent's return: %w", err)
	}
	result.Lost, err = s.kernelLost(ctx, node, before)
	return result, err
}

// BusiestNode returns the node with the most pods of the workload.
func (s *Sandbox) BusiestNode(ctx context.Context, workload Workload, nodes []Node) (Node, error) {
	sites, err := s.sites(ctx, workload, nodes)
	if err != nil {
		return Node{}, err
	}
	if len(sites) == 0 {
		return Node{}, errors.New("no node has pods of the workload")
	}
	return slices.MaxFunc(sites, func(a, b site) int { return len(a.pods) - len(b.pods) }).node, nil
}

// probesOf tries a pod's connections to a pod of the same node and to the internet.
func (s *Sandbox) probesOf(ctx context.Context, at site, pod *corev1.Pod) ([]Probe, error) {
	public, err := s.natAddress(ctx)
	if err != nil {
		return nil, err
	}
	probes := []Probe{s.dialFromPod(ctx, pathSameNode, pod, at.listener().Status.PodIP, podPort)}
	internet, err := s.probeInternet(ctx, site{node: at.node, pods: []*corev1.Pod{pod}}, public)
	return append(probes, internet...), err
}

// holdAgent kills the agent and whoever follows it. It returns when the first is dead; release ends the killing and
// returns the processes that were killed.
func (s *Sandbox) holdAgent(ctx context.Context, node Node) (release func() ([]string, error), err error) {
	killer, first, err := s.start(ctx, "--instance", node.InstanceID, "kill", "-hold", agentProgram)
	if err != nil {
		return nil, err
	}
	return func() ([]string, error) {
		rest, err := killer.stop()
		return append([]string{first}, strings.Fields(rest)...), err
	}, nil
}

// waitAgent waits until an agent runs that was not killed and says that it serves the node.
func (s *Sandbox) waitAgent(ctx context.Context, node Node, killed []string) (pid string, err error) {
	err = until(ctx, "the agent of "+node.Name+" is back", func(ctx context.Context) error {
		out, err := s.OnNode(ctx, node.InstanceID, s.netprobe("pids", agentProgram)...)
		if err != nil {
			return err
		}
		pids := slices.DeleteFunc(strings.Fields(out), func(pid string) bool { return slices.Contains(killed, pid) })
		if len(pids) != 1 {
			return fmt.Errorf("%d agents run", len(pids))
		}
		pid = pids[0]
		_, err = s.OnNode(ctx, node.InstanceID, s.netprobe("get", agentHealth)...)
		return err
	})
	return pid, err
}

// pool reads the prefixes that the agent has published for the plugin.
func (s *Sandbox) pool(ctx context.Context, node Node) ([]netip.Prefix, error) {
	out, err := s.OnNode(ctx, node.InstanceID, "cat", stateDir+"/pool.json")
	if err != nil {
		return nil, err
	}
	var published struct {
		ENIs []struct {
			Prefixes []netip.Prefix `json:"prefixes"`
		} `json:"enis"`
	}
	if err := json.Unmarshal([]byte(out), &published); err != nil {
		return nil, fmt.Errorf("the pool of node %s: %w", node.Name, err)
	}
	var prefixes []netip.Prefix
	for _, eni := range published.ENIs {
		prefixes = append(prefixes, eni.Prefixes...)
	}
	return prefixes, nil
}

// agentHealth is the readiness endpoint of the chart's DaemonSet, on the node.
const agentHealth = "http://127.0.0.1:61681/readyz"

// kernel lists the node's rules, routes and nftables.
func (s *Sandbox) kernel(ctx context.Context, node Node) ([]string, error) {
	out, err := s.OnNode(ctx, node.InstanceID, s.netprobe("kernel")...)
	if err != nil {
		return nil, err
	}
	facts := strings.Split(strings.TrimSpace(out), "\n")
	if !slices.ContainsFunc(facts, func(fact string) bool { return strings.HasPrefix(fact, "rule 512:") }) {
		return nil, fmt.Errorf("node %s has no rule to the pods' routes:\n%s", node.Name, out)
	}
	return facts, nil
}

// kernelLost returns the facts from before that are no more.
func (s *Sandbox) kernelLost(ctx context.Context, node Node, before []string) ([]string, error) {
	now, err := s.kernel(ctx, node)
	if err != nil {
		return nil, err
	}
	return slices.DeleteFunc(slices.Clone(before), func(fact string) bool { return slices.Contains(now, fact) }), nil
}
