// SPDX-License-Identifier: Apache-2.0

package podnetwork_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// vpcCNI is aws-node's DaemonSet as its chart installs it, with this environment on top.
func vpcCNI(environment map[string]string) *appsv1.DaemonSet {
	labels := map[string]string{"k8s-app": "aws-node"}
	values := map[string]string{
		"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": "false", "AWS_VPC_K8S_CNI_EXTERNALSNAT": "false", "AWS_VPC_K8S_CNI_RANDOMIZESNAT": "prng",
		"ENABLE_POD_ENI": "false", "ENABLE_PREFIX_DELEGATION": "false", "WARM_ENI_TARGET": "1", "WARM_PREFIX_TARGET": "1",
		"DISABLE_NETWORK_RESOURCE_PROVISIONING": "false", "ENABLE_IPv4": "true", "ENABLE_IPv6": "false", "ENABLE_IMDS_ONLY_MODE": "false",
	}
	maps.Copy(values, environment)
	container := corev1.Container{Name: "aws-node", Image: "amazon-k8s-cni"}
	for _, name := range slices.Sorted(maps.Keys(values)) {
		container.Env = append(container.Env, corev1.EnvVar{Name: name, Value: values[name]})
	}
	return &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: metav1.NamespaceSystem, Name: "aws-node"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
				Containers: []corev1.Container{container}, Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
				Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{
					NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{
						{Key: corev1.LabelOSStable, Operator: corev1.NodeSelectorOpIn, Values: []string{"linux"}},
						{Key: "eks.amazonaws.com/compute-type", Operator: corev1.NodeSelectorOpNotIn, Values: []string{"fargate"}},
					}}},
				}}},
			}},
		},
	}
}

// customNetworking is what the environment must say for a PodNetwork of defaults.
var customNetworking = map[string]string{
	"AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG": "true", "ENI_CONFIG_LABEL_DEF": "topology.kubernetes.io/zone", "ENABLE_PREFIX_DELEGATION": "true",
}

// servedByVPCCNI makes aws-node the one to serve PodNetwork default.
func (w *world) servedByVPCCNI() {
	w.Helper()
	network := w.network("default")
	network.Spec.Agent = v1alpha1.AgentVPCCNI
	require.NoError(w, w.Update(w.Context(), network))
}

// changeVPCCNI edits its DaemonSet.
func (w *world) changeVPCCNI(change func(*corev1.PodSpec)) {
	w.Helper()
	daemonSet := &appsv1.DaemonSet{}
	require.NoError(w, w.Get(w.Context(), client.ObjectKeyFromObject(vpcCNI(nil)), daemonSet))
	change(&daemonSet.Spec.Template.Spec)
	require.NoError(w, w.Update(w.Context(), daemonSet))
}

var patchCommand = regexp.MustCompile(`kubectl -n kube-system patch daemonset aws-node --type merge -p '([^']+)'`)

// applyPatchOf does what a condition's message says.
func (w *world) applyPatchOf(condition string) {
	w.Helper()
	message := w.network("default").StatusConditions().Get(condition).Message
	found := patchCommand.FindStringSubmatch(message)
	require.NotNil(w, found, message)
	require.NoError(w, w.Patch(w.Context(), vpcCNI(nil), client.RawPatch(types.MergePatchType, []byte(found[1]))))
}

func (w *world) requireAgentNotReady(network *v1alpha1.PodNetwork, reason string) {
	w.Helper()
	requireCondition(w, network, v1alpha1.ConditionAgentReady, metav1.ConditionFalse, reason)
	requireCondition(w, network, "Ready", metav1.ConditionFalse, reason)
	message := network.StatusConditions().Get(v1alpha1.ConditionAgentReady).Message
	w.requireEvent("PodNetwork", "default", reason, message)
	require.Len(w, network.Status.Zones, 3, "what the VPC has is said all the same")
}

// Two programs on one node would each take the other's ENIs for their own.
func testVPCCNIOnDovetailNodes(w *world) {
	w.create(vpcCNI(nil))
	network := w.reconcile("default")
	w.requireAgentNotReady(network, "VPCCNIOnDovetailNodes")
	require.Contains(w, network.StatusConditions().Get(v1alpha1.ConditionAgentReady).Message, "new nodes")
	require.Nil(w, network.StatusConditions().Get(v1alpha1.ConditionVPCCNIConfigured), "its settings are no matter")
	require.Equal(w, network.ResourceVersion, w.reconcile("default").ResourceVersion)

	// A user's own way to keep it away: the NodePools' nodes have no such label.
	pool := nodePool("mine")
	w.create(pool)
	w.changeVPCCNI(func(pod *corev1.PodSpec) { pod.NodeSelector = map[string]string{"cni": "aws"} })
	require.True(w, w.reconcile("default").StatusConditions().Root().IsTrue())
	w.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "older", Labels: map[string]string{
		v1alpha1.LabelPodNetwork: "default", "cni": "aws", corev1.LabelOSStable: "linux",
	}}})
	network = w.reconcile("default")
	w.requireAgentNotReady(network, "VPCCNIOnDovetailNodes")
	message := network.StatusConditions().Get(v1alpha1.ConditionAgentReady).Message
	require.Contains(w, message, "(older)", "a node from before the label is the agent's")
	w.requireEvent("NodePool", "mine", "VPCCNIOnDovetailNodes", "pod network default launches no nodes until its condition AgentReady is true: "+message)

	w.applyPatchOf(v1alpha1.ConditionAgentReady)
	require.True(w, w.reconcile("default").StatusConditions().Root().IsTrue())
	w.create(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "from-before", Labels: map[string]string{
		v1alpha1.LabelPodNetwork: "default", v1alpha1.LabelAgent: "VPCCNI", "cni": "aws", corev1.LabelOSStable: "linux",
	}}})
	require.True(w, w.reconcile("default").StatusConditions().Root().IsTrue(), "aws-node keeps its nodes until they are replaced")
}

func testVPCCNIMissing(w *world) {
	w.servedByVPCCNI()
	w.requireAgentNotReady(w.reconcile("default"), "VPCCNIMissing")
	other := vpcCNI(customNetworking)
	other.Spec.Template.Spec.Containers[0].Name = "other"
	w.create(other)
	w.requireAgentNotReady(w.reconcile("default"), "VPCCNIMissing")
	require.NoError(w, w.Delete(w.Context(), other))
	w.create(vpcCNI(customNetworking))
	network := w.reconcile("default")
	require.True(w, network.StatusConditions().Root().IsTrue())
	require.True(w, network.StatusConditions().Get(v1alpha1.ConditionVPCCNIConfigured).IsTrue())
	require.Equal(w, network.ResourceVersion, w.reconcile("default").ResourceVersion)
}

func testVPCCNINotOnNodes(w *world) {
	w.servedByVPCCNI()
	daemonSet := vpcCNI(customNetworking)
	terms := daemonSet.Spec.Template.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	terms[0].MatchExpressions = append(terms[0].MatchExpressions, corev1.NodeSelectorRequirement{Key: v1alpha1.LabelPodNetwork, Operator: corev1.NodeSelectorOpDoesNotExist})
	w.create(daemonSet, nodePool("mine"))
	network := w.reconcile("default")
	w.requireAgentNotReady(network, "VPCCNINotOnNodes")
	require.Contains(w, network.StatusConditions().Get(v1alpha1.ConditionAgentReady).Message, "nodes of NodePool mine")
	w.applyPatchOf(v1alpha1.ConditionAgentReady)
	require.True(w, w.reconcile("default").StatusConditions().Root().IsTrue())
}

func testVPCCNISettings(w *world) {
	w.servedByVPCCNI()
	w.create(vpcCNI(map[string]string{"WARM_PREFIX_TARGET": "3"}))
	network := w.reconcile("default")
	w.requireAgentNotReady(network, "VPCCNISettingsDiffer")
	message := network.StatusConditions().Get(v1alpha1.ConditionAgentReady).Message
	require.Contains(w, message, `ENABLE_PREFIX_DELEGATION is "false" and must be "true"`)
	require.NotContains(w, message, "WARM_PREFIX_TARGET")
	requireCondition(w, network, v1alpha1.ConditionVPCCNIConfigured, metav1.ConditionFalse, "VPCCNISettingsDiffer")

	// What the message says to do, in the end but for the warm target.
	_, settings, _ := strings.Cut(message, "set env daemonset aws-node -c aws-node ")
	w.changeVPCCNI(func(pod *corev1.PodSpec) {
		for _, setting := range strings.Fields(settings) {
			name, value, _ := strings.Cut(setting, "=")
			others := slices.DeleteFunc(pod.Containers[0].Env, func(e corev1.EnvVar) bool { return e.Name == name })
			pod.Containers[0].Env = append(others, corev1.EnvVar{Name: name, Value: value})
		}
	})
	network = w.reconcile("default")
	require.True(w, network.StatusConditions().Root().IsTrue(), "another warm target costs addresses, and keeps no pod from starting")
	requireCondition(w, network, v1alpha1.ConditionVPCCNIConfigured, metav1.ConditionFalse, "VPCCNISettingsDiffer")
	message = network.StatusConditions().Get(v1alpha1.ConditionVPCCNIConfigured).Message
	require.Contains(w, message, `WARM_PREFIX_TARGET is "3" and must be "1"`)
	w.requireEvent("PodNetwork", "default", "VPCCNISettingsDiffer", message)

	network.Spec.Agent = v1alpha1.AgentDovetail
	require.NoError(w, w.Update(w.Context(), network))
	require.Nil(w, w.reconcile("default").StatusConditions().Get(v1alpha1.ConditionVPCCNIConfigured), "another's settings are no matter")
}

func testVPCCNISettingsHidden(w *world) {
	w.servedByVPCCNI()
	daemonSet := vpcCNI(customNetworking)
	environment := &daemonSet.Spec.Template.Spec.Containers[0].Env
	*environment = append(slices.DeleteFunc(*environment, func(e corev1.EnvVar) bool { return e.Name == "WARM_PREFIX_TARGET" }), corev1.EnvVar{
		Name: "WARM_PREFIX_TARGET", ValueFrom: &corev1.EnvVarSource{ConfigMapKeyRef: &corev1.ConfigMapKeySelector{
			LocalObjectReference: corev1.LocalObjectReference{Name: "cni"}, Key: "warm",
		}},
	})
	w.create(daemonSet)
	network := w.reconcile("default")
	require.True(w, network.StatusConditions().Root().IsTrue())
	requireCondition(w, network, v1alpha1.ConditionVPCCNIConfigured, metav1.ConditionUnknown, "VPCCNISettingsHidden")
	require.Contains(w, network.StatusConditions().Get(v1alpha1.ConditionVPCCNIConfigured).Message, "WARM_PREFIX_TARGET (key warm of ConfigMap cni)")
}
