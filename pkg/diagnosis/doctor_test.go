// SPDX-License-Identifier: Apache-2.0

package diagnosis_test

import (
	"slices"
	"testing"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/diagnosis"
)

func meta(name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "dovetail-system", Name: name, Labels: labels}
}

func image(tag string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: "registry:5000/dovetail/x:" + tag}}}}
}

// healthy is an installation with one node and nothing to mend.
func healthy() diagnosis.Installation {
	dovetail := map[string]string{"app.kubernetes.io/name": "dovetail"}
	network := v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	for _, c := range network.StatusConditions().List() {
		network.StatusConditions().SetTrue(c.Type)
	}
	pool := karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "pool"}}
	for _, c := range pool.StatusConditions().List() {
		pool.StatusConditions().SetTrue(c.Type)
	}
	n := *node(nodeCondition(v1alpha1.ConditionPodNetworkReady, corev1.ConditionTrue, "AddressesAvailable", ""))
	n.Labels[corev1.LabelTopologyZone] = "us-east-1a"
	return diagnosis.Installation{
		Now: now, Kubernetes: "1.35",
		Controllers: []appsv1.Deployment{{ObjectMeta: meta("dovetail-controller", dovetail), Spec: appsv1.DeploymentSpec{Template: image("1")}, Status: appsv1.DeploymentStatus{Replicas: 2, AvailableReplicas: 2}}},
		Agents:      []appsv1.DaemonSet{{ObjectMeta: meta("dovetail-agent", dovetail), Spec: appsv1.DaemonSetSpec{Template: image("1")}, Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 1, NumberReady: 1}}},
		Lease:       &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: &metav1.MicroTime{Time: now.Add(-2 * time.Second)}}},
		PodNetworks: []v1alpha1.PodNetwork{network}, NodePools: []karpv1.NodePool{pool},
		ENIConfigs: []eniconfig.ENIConfig{{ObjectMeta: metav1.ObjectMeta{Name: "us-east-1a"}}},
		Nodes:      []corev1.Node{n},
	}
}

func TestAHealthyInstallationHasNothingToMend(t *testing.T) {
	for _, check := range diagnosis.Examine(healthy()) {
		require.Equal(t, diagnosis.ResultOK, check.Result, "%+v", check)
	}
}

func TestExamine(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*diagnosis.Installation)
		result diagnosis.Result
		says   string
	}{
		"Kubernetes is too new":        {func(i *diagnosis.Installation) { i.Kubernetes = "1.99" }, diagnosis.ResultFailed, "1.99; this Karpenter is for"},
		"Kubernetes hides its version": {func(i *diagnosis.Installation) { i.Kubernetes = "." }, diagnosis.ResultUnknown, "the API server says"},
		"a kind is missing":            {func(i *diagnosis.Installation) { i.Missing = []string{"ENIConfig"} }, diagnosis.ResultFailed, "does not have ENIConfig"},
		"upstream's Karpenter runs too": {func(i *diagnosis.Installation) {
			i.Controllers = append(i.Controllers, appsv1.Deployment{ObjectMeta: meta("karpenter", map[string]string{"app.kubernetes.io/name": "karpenter"}), Status: appsv1.DeploymentStatus{Replicas: 1}})
		}, diagnosis.ResultFailed, "runs Karpenter too"},
		"two installations":     {func(i *diagnosis.Installation) { i.Controllers = append(i.Controllers, i.Controllers[0]) }, diagnosis.ResultFailed, "2 installations"},
		"no controller":         {func(i *diagnosis.Installation) { i.Controllers = nil }, diagnosis.ResultFailed, "no Deployment of Dovetail's controller"},
		"nobody leads":          {func(i *diagnosis.Installation) { i.Lease.Spec.RenewTime.Time = now.Add(-time.Minute) }, diagnosis.ResultFailed, "no replica leads"},
		"a right is missing":    {func(i *diagnosis.Installation) { i.Denied = []string{"patch nodes"} }, diagnosis.ResultFailed, "may not patch nodes"},
		"rights are not known":  {func(i *diagnosis.Installation) { i.Unchecked = true }, diagnosis.ResultUnknown, "SubjectAccessReviews"},
		"no agent":              {func(i *diagnosis.Installation) { i.Agents = nil }, diagnosis.ResultFailed, "no DaemonSet"},
		"no agent on a node":    {func(i *diagnosis.Installation) { i.Agents[0].Status = appsv1.DaemonSetStatus{} }, diagnosis.ResultFailed, "wants 0 pods for 1 nodes"},
		"an agent is not ready": {func(i *diagnosis.Installation) { i.Agents[0].Status.NumberReady = 0 }, diagnosis.ResultFailed, "1 of 1 pods"},
		"the agent is older":    {func(i *diagnosis.Installation) { i.Agents[0].Spec.Template = image("0") }, diagnosis.ResultWarning, "its version is 0, the controller's 1"},
		"no PodNetwork":         {func(i *diagnosis.Installation) { i.PodNetworks, i.Nodes = nil, nil }, diagnosis.ResultWarning, "there is none"},
		"a PodNetwork has a problem": {func(i *diagnosis.Installation) {
			i.PodNetworks[0].StatusConditions().SetFalse(v1alpha1.ConditionSubnetsReady, "SubnetNotFound", "subnet-1 does not exist")
		}, diagnosis.ResultFailed, "SubnetsReady is False (SubnetNotFound): subnet-1 does not exist"},
		"nodes are being replaced": {func(i *diagnosis.Installation) {
			i.PodNetworks[0].StatusConditions().SetFalse(v1alpha1.ConditionMigrationComplete, "NodesOutdated", "1 of 1 nodes")
		}, diagnosis.ResultWarning, "MigrationComplete"},
		"the spec is newer than the status": {func(i *diagnosis.Installation) { i.PodNetworks[0].Generation = 9 }, diagnosis.ResultFailed, "no controller has looked"},
		"no NodePool":                       {func(i *diagnosis.Installation) { i.NodePools = nil }, diagnosis.ResultWarning, "no node is launched"},
		"a node's ENIConfig is gone":        {func(i *diagnosis.Installation) { i.ENIConfigs = nil }, diagnosis.ResultFailed, "their ENIConfig us-east-1a does not exist (1: n1)"},
		"a node's PodNetwork is gone":       {func(i *diagnosis.Installation) { i.PodNetworks[0].Name = "other" }, diagnosis.ResultFailed, "which is no PodNetwork"},
		"a node gives no addresses": {func(i *diagnosis.Installation) {
			i.Nodes[0].Status.Conditions[0] = nodeCondition(v1alpha1.ConditionPodNetworkReady, corev1.ConditionFalse, "MissingIAMPermissions", "the role lacks a right")
		}, diagnosis.ResultFailed, "MissingIAMPermissions: the role lacks a right"},
	} {
		t.Run(name, func(t *testing.T) {
			i := healthy()
			test.change(&i)
			checks := diagnosis.Examine(i)
			at := slices.IndexFunc(checks, func(c diagnosis.Check) bool { return c.Result != diagnosis.ResultOK })
			require.GreaterOrEqual(t, at, 0, "%+v", checks)
			require.Equal(t, test.result, checks[at].Result, "%+v", checks[at])
			require.Contains(t, checks[at].Message, test.says)
			require.Equal(t, test.result == diagnosis.ResultFailed, checks.Failed())
		})
	}
}
