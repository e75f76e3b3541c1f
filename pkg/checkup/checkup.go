// SPDX-License-Identifier: Apache-2.0

// Package checkup examines an installation of Dovetail: what is there, what is missing, and what to mend first. What it decides from is
// read once; the decision itself knows no cluster.
package checkup

import (
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/aws/karpenter-provider-aws/pkg/providers/version"
	"github.com/awslabs/operatorpkg/status"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cli"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// Result of a check.
type Result string

// Results.
const (
	ResultOK      Result = "ok"
	ResultWarning Result = "warning"
	ResultFailed  Result = "failed"
	// ResultUnknown: it could not be looked at.
	ResultUnknown Result = "unknown"
)

// Check of an installation.
type Check struct {
	What    string `json:"what"`
	Result  Result `json:"result"`
	Message string `json:"message"`
	Fix     string `json:"fix,omitempty"`
}

// Report is what was found, in the order in which to mend it.
type Report []Check

// Failed tells whether something does not work.
func (r Report) Failed() bool {
	return slices.ContainsFunc(r, func(check Check) bool { return check.Result == ResultFailed })
}

// Installation is what there is of Dovetail in a cluster. A kind that the cluster does not have is in Missing, and its list is empty.
type Installation struct {
	Now        time.Time
	Kubernetes string // minor version: 1.35
	Missing    []string

	Controllers []appsv1.Deployment // that are Karpenter: Dovetail's and upstream's
	Agents      []appsv1.DaemonSet
	Lease       *coordinationv1.Lease
	// Denied rights of the controller's service account; nil with Unchecked true when the caller may not ask.
	Denied    []string
	Unchecked bool

	PodNetworks []v1alpha1.PodNetwork
	ENIConfigs  []eniconfig.ENIConfig
	NodePools   []karpv1.NodePool
	NodeClasses []ec2nodeclass.EC2NodeClass
	Nodes       []corev1.Node
}

// leaseAge after which nobody leads: Karpenter's leader renews within 10 s and loses its lease after 15 s.
const leaseAge = 30 * time.Second

// Examine an installation.
func Examine(i Installation) (r Report) {
	for _, check := range []func(Installation) []Check{kubernetes, kinds, controllers, rights, agents, networks, nodeClasses, nodePools, nodes} {
		r = append(r, check(i)...)
	}
	return r
}

func kubernetes(i Installation) []Check {
	const what = "Kubernetes version"
	_, text, _ := strings.Cut(i.Kubernetes, ".")
	minor, err := strconv.Atoi(text)
	least, most := minorOf(version.MinK8sVersion), minorOf(version.MaxK8sVersion)
	switch {
	case err != nil:
		return []Check{{what, ResultUnknown, fmt.Sprintf("the API server says %q", i.Kubernetes), ""}}
	case minor < least || minor > most:
		return []Check{{what, ResultFailed, fmt.Sprintf("%s; this Karpenter is for %s to %s", i.Kubernetes, version.MinK8sVersion, version.MaxK8sVersion), "upgrade the cluster, or choose another release"}}
	}
	return []Check{{what, ResultOK, i.Kubernetes, ""}}
}

func minorOf(version string) int {
	_, text, _ := strings.Cut(version, ".")
	minor, _ := strconv.Atoi(text) // a constant of Karpenter's
	return minor
}

func kinds(i Installation) []Check {
	const what = "custom resources"
	if len(i.Missing) > 0 {
		return []Check{{what, ResultFailed, "the cluster does not have " + strings.Join(i.Missing, ", "), "helm upgrade --install the chart dovetail-crd, before the chart dovetail"}}
	}
	return []Check{{what, ResultOK, "PodNetwork, NodeMigration, ENIConfig, EC2NodeClass, NodePool, NodeClaim", ""}}
}

// isDovetail tells Dovetail's controller from upstream's by the chart's label.
func isDovetail(d appsv1.Deployment) bool { return d.Labels["app.kubernetes.io/name"] == "dovetail" }

func controllers(i Installation) (found []Check) {
	const what = "controller"
	var ours []appsv1.Deployment
	for _, d := range i.Controllers {
		switch {
		case isDovetail(d):
			ours = append(ours, d)
		case d.Status.Replicas > 0:
			found = append(found, Check{what, ResultFailed, fmt.Sprintf("Deployment %s/%s runs Karpenter too: both would launch nodes for the same pods", d.Namespace, d.Name), fmt.Sprintf("kubectl -n %s scale deployment %s --replicas 0; NodePools and NodeClaims stay", d.Namespace, d.Name)})
		}
	}
	if len(ours) == 0 {
		return append(found, Check{what, ResultFailed, "there is no Deployment of Dovetail's controller", "helm upgrade --install the chart dovetail"})
	}
	d := ours[0]
	name := d.Namespace + "/" + d.Name
	switch {
	case len(ours) > 1:
		found = append(found, Check{what, ResultFailed, fmt.Sprintf("there are %d installations of the chart", len(ours)), "uninstall all but one"})
	case d.Status.AvailableReplicas == 0:
		found = append(found, Check{what, ResultFailed, fmt.Sprintf("Deployment %s has no available replica", name), fmt.Sprintf("kubectl -n %s describe deployment %s; kubectl -n %s logs deployment/%s", d.Namespace, d.Name, d.Namespace, d.Name)})
	default:
		found = append(found, Check{what, ResultOK, fmt.Sprintf("%s, %d of %d replicas available, %s", name, d.Status.AvailableReplicas, d.Status.Replicas, imageTag(d.Spec.Template.Spec)), ""})
	}
	if d.Status.AvailableReplicas > 0 && (i.Lease == nil || i.Lease.Spec.RenewTime == nil || i.Now.Sub(i.Lease.Spec.RenewTime.Time) > leaseAge) {
		found = append(found, Check{what, ResultFailed, "no replica leads: the lease karpenter-leader-election was not renewed lately", fmt.Sprintf("kubectl -n %s logs deployment/%s", d.Namespace, d.Name)})
	}
	return found
}

func rights(i Installation) []Check {
	const what = "controller's rights"
	switch {
	case !slices.ContainsFunc(i.Controllers, isDovetail):
		return nil
	case i.Unchecked:
		return []Check{{what, ResultUnknown, "these credentials may not create SubjectAccessReviews", ""}}
	case len(i.Denied) > 0:
		return []Check{{what, ResultFailed, "its service account may not " + strings.Join(i.Denied, "; "), "helm upgrade the chart dovetail: it has the roles"}}
	}
	return []Check{{what, ResultOK, "as the chart grants them", ""}}
}

func agents(i Installation) []Check {
	const what = "node agent"
	served := 0
	for _, n := range i.Nodes {
		if _, on := n.Labels[v1alpha1.LabelPodNetwork]; on && podnetwork.AgentOn(&n) == v1alpha1.AgentDovetail {
			served++
		}
	}
	if len(i.Agents) == 0 {
		if served == 0 && slices.ContainsFunc(i.PodNetworks, func(n v1alpha1.PodNetwork) bool { return podnetwork.AgentOf(&n) == v1alpha1.AgentVPCCNI }) {
			return nil
		}
		return []Check{{what, ResultFailed, "there is no DaemonSet of Dovetail's node agent", "helm upgrade --install the chart dovetail"}}
	}
	var found []Check
	for _, d := range i.Agents {
		s := d.Status
		switch {
		case int(s.DesiredNumberScheduled) < served:
			found = append(found, Check{what, ResultFailed, fmt.Sprintf("DaemonSet %s/%s wants %d pods for %d nodes of pod networks", d.Namespace, d.Name, s.DesiredNumberScheduled, served), "compare its node affinity and tolerations with the nodes'"})
		case s.NumberReady < s.DesiredNumberScheduled:
			found = append(found, Check{what, ResultFailed, fmt.Sprintf("%d of %d pods of DaemonSet %s/%s are not ready", s.DesiredNumberScheduled-s.NumberReady, s.DesiredNumberScheduled, d.Namespace, d.Name), fmt.Sprintf("kubectl -n %s get pods -o wide | grep %s", d.Namespace, d.Name)})
		default:
			found = append(found, Check{what, ResultOK, fmt.Sprintf("%s/%s, ready on %d nodes, %s", d.Namespace, d.Name, s.NumberReady, imageTag(d.Spec.Template.Spec)), ""})
		}
		for _, c := range i.Controllers {
			if isDovetail(c) && imageTag(c.Spec.Template.Spec) != imageTag(d.Spec.Template.Spec) {
				found = append(found, Check{what, ResultWarning, fmt.Sprintf("its version is %s, the controller's %s", imageTag(d.Spec.Template.Spec), imageTag(c.Spec.Template.Spec)), "helm upgrade the chart dovetail: it sets both"})
			}
		}
	}
	return found
}

// imageTag of the first container.
func imageTag(spec corev1.PodSpec) string {
	if len(spec.Containers) == 0 {
		return "no image"
	}
	image, _, _ := strings.Cut(spec.Containers[0].Image, "@")
	if i := strings.LastIndexByte(image, ':'); i > strings.LastIndexByte(image, '/') {
		return image[i+1:]
	}
	return "latest"
}

func networks(i Installation) (found []Check) {
	if len(i.PodNetworks) == 0 {
		return []Check{{"PodNetwork", ResultWarning, "there is none: nodes are launched as upstream's Karpenter does", "apply one; an empty spec uses the ENIConfigs named after the zones"}}
	}
	for n := range i.PodNetworks {
		network := &i.PodNetworks[n]
		found = append(found, unmet("PodNetwork "+network.Name, network.GetConditions(), network.Generation)...)
	}
	return found
}

func nodeClasses(i Installation) (found []Check) {
	for n := range i.NodeClasses {
		nodeClass := &i.NodeClasses[n]
		found = append(found, unmet("EC2NodeClass "+nodeClass.Name, nodeClass.GetConditions(), nodeClass.Generation)...)
	}
	return found
}

func nodePools(i Installation) (found []Check) {
	if len(i.NodePools) == 0 {
		return []Check{{"NodePool", ResultWarning, "there is none: no node is launched", "apply one"}}
	}
	for n := range i.NodePools {
		pool := &i.NodePools[n]
		found = append(found, unmet("NodePool "+pool.Name, pool.GetConditions(), pool.Generation)...)
	}
	return found
}

// unmet conditions of an object. Ready, which sums them up, only when it alone is there.
func unmet(what string, conditions []status.Condition, generation int64) (found []Check) {
	var root *status.Condition
	for n := range conditions {
		c := &conditions[n]
		switch {
		case c.Type == status.ConditionReady:
			root = c
		case c.IsFalse() && c.Type == v1alpha1.ConditionMigrationComplete:
			found = append(found, Check{what, ResultWarning, c.Type + ": " + c.Message, ""})
		case c.IsFalse():
			found = append(found, Check{what, ResultFailed, fmt.Sprintf("%s is False (%s): %s", c.Type, c.Reason, c.Message), ""})
		}
	}
	switch {
	case root == nil || root.ObservedGeneration < generation:
		return append(found, Check{what, ResultFailed, "no controller has looked at its present spec", "see the check of the controller"})
	case len(found) == 0 && !root.IsTrue():
		return []Check{{what, ResultFailed, fmt.Sprintf("not Ready (%s): %s", root.Reason, root.Message), ""}}
	case len(found) == 0:
		return []Check{{what, ResultOK, "Ready", ""}}
	}
	return found
}

// nodes of pod networks: their labels, and what their agents say.
func nodes(i Installation) (found []Check) {
	trouble := map[string][]string{} // nodes by what is wrong
	order := []string{}
	note := func(node, what string) {
		if _, known := trouble[what]; !known {
			order = append(order, what)
		}
		trouble[what] = append(trouble[what], node)
	}
	on := 0
	for n := range i.Nodes {
		node := &i.Nodes[n]
		name, member := node.Labels[v1alpha1.LabelPodNetwork]
		if !member {
			continue
		}
		on++
		index := slices.IndexFunc(i.PodNetworks, func(p v1alpha1.PodNetwork) bool { return p.Name == name })
		if index < 0 {
			note(node.Name, "their label "+v1alpha1.LabelPodNetwork+" names "+name+", which is no PodNetwork: replace them")
			continue
		}
		config := podnetwork.ENIConfigOf(&i.PodNetworks[index], node)
		if !slices.ContainsFunc(i.ENIConfigs, func(c eniconfig.ENIConfig) bool { return c.Name == config }) {
			note(node.Name, "their ENIConfig "+config+" does not exist")
		}
		for _, c := range node.Status.Conditions {
			if c.Type == v1alpha1.ConditionPodNetworkReady && c.Status == corev1.ConditionFalse {
				note(node.Name, c.Reason+": "+c.Message)
			}
		}
	}
	for _, what := range order {
		found = append(found, Check{"nodes", ResultFailed, fmt.Sprintf("%s (%d: %s)", what, len(trouble[what]), cli.Some(trouble[what])), "kubectl dovetail node status " + trouble[what][0]})
	}
	if len(found) == 0 && on > 0 {
		found = append(found, Check{"nodes", ResultOK, fmt.Sprintf("%d on pod networks, all give addresses", on), ""})
	}
	return found
}

// Print for people.
func (r Report) Print(w io.Writer) {
	marks := map[Result]string{ResultOK: "✓", ResultWarning: "!", ResultFailed: "✗", ResultUnknown: "?"}
	for _, check := range r {
		fmt.Fprintf(w, "%s %s: %s\n", marks[check.Result], check.What, check.Message)
		if check.Fix != "" {
			fmt.Fprintf(w, "    do  %s\n", check.Fix)
		}
	}
}
