// SPDX-License-Identifier: Apache-2.0

package checkup_test

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
	"github.com/dovetail-dev/dovetail/pkg/checkup"
)

var now = time.Unix(1_800_000_000, 0)

func meta(name string, labels map[string]string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: "dovetail-system", Name: name, Labels: labels}
}

func image(tag string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{Containers: []corev1.Container{{Image: "registry:5000/dovetail/x:" + tag}}}}
}

// healthy is an installation with one node and nothing to mend.
func healthy() checkup.Installation {
	dovetail := map[string]string{"app.kubernetes.io/name": "dovetail"}
	network := v1alpha1.PodNetwork{ObjectMeta: metav1.ObjectMeta{Name: "default"}}
	for _, c := range network.StatusConditions().List() {
		network.StatusConditions().SetTrue(c.Type)
	}
	pool := karpv1.NodePool{ObjectMeta: metav1.ObjectMeta{Name: "pool"}}
	for _, c := range pool.StatusConditions().List() {
		pool.StatusConditions().SetTrue(c.Type)
	}
	node := corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{v1alpha1.LabelPodNetwork: "default", corev1.LabelTopologyZone: "us-east-1a"}},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: v1alpha1.ConditionPodNetworkReady, Status: corev1.ConditionTrue, Reason: "AddressesAvailable"}}},
	}
	return checkup.Installation{
		Now: now, Kubernetes: "1.35",
		Controllers: []appsv1.Deployment{{ObjectMeta: meta("dovetail-controller", dovetail), Spec: appsv1.DeploymentSpec{Template: image("1")}, Status: appsv1.DeploymentStatus{Replicas: 2, AvailableReplicas: 2}}},
		Agents:      []appsv1.DaemonSet{{ObjectMeta: meta("dovetail-agent", dovetail), Spec: appsv1.DaemonSetSpec{Template: image("1")}, Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 1, NumberReady: 1}}},
		Lease:       &coordinationv1.Lease{Spec: coordinationv1.LeaseSpec{RenewTime: &metav1.MicroTime{Time: now.Add(-2 * time.Second)}}},
		PodNetworks: []v1alpha1.PodNetwork{network}, NodePools: []karpv1.NodePool{pool},
		ENIConfigs: []eniconfig.ENIConfig{{ObjectMeta: metav1.ObjectMeta{Name: "us-east-1a"}}},
		Nodes:      []corev1.Node{node},
	}
}

func TestAHealthyInstallationHasNothingToMend(t *testing.T) {
	for _, check := range checkup.Examine(healthy()) {
		require.Equal(t, checkup.ResultOK, check.Result, "%+v", check)
	}
}

func TestExamine(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*checkup.Installation)
		result checkup.Result
		says   string
	}{
		"Kubernetes is too new":        {func(i *checkup.Installation) { i.Kubernetes = "1.99" }, checkup.ResultFailed, "1.99; this Karpenter is for"},
		"Kubernetes hides its version": {func(i *checkup.Installation) { i.Kubernetes = "." }, checkup.ResultUnknown, "the API server says"},
		"a kind is missing":            {func(i *checkup.Installation) { i.Missing = []string{"ENIConfig"} }, checkup.ResultFailed, "does not have ENIConfig"},
		"upstream's Karpenter runs too": {func(i *checkup.Installation) {
			i.Controllers = append(i.Controllers, appsv1.Deployment{ObjectMeta: meta("karpenter", map[string]string{"app.kubernetes.io/name": "karpenter"}), Status: appsv1.DeploymentStatus{Replicas: 1}})
		}, checkup.ResultFailed, "runs Karpenter too"},
		"two installations":     {func(i *checkup.Installation) { i.Controllers = append(i.Controllers, i.Controllers[0]) }, checkup.ResultFailed, "2 installations"},
		"no controller":         {func(i *checkup.Installation) { i.Controllers = nil }, checkup.ResultFailed, "no Deployment of Dovetail's controller"},
		"nobody leads":          {func(i *checkup.Installation) { i.Lease.Spec.RenewTime.Time = now.Add(-time.Minute) }, checkup.ResultFailed, "no replica leads"},
		"a right is missing":    {func(i *checkup.Installation) { i.Denied = []string{"patch nodes"} }, checkup.ResultFailed, "may not patch nodes"},
		"rights are not known":  {func(i *checkup.Installation) { i.Unchecked = true }, checkup.ResultUnknown, "SubjectAccessReviews"},
		"no agent":              {func(i *checkup.Installation) { i.Agents = nil }, checkup.ResultFailed, "no DaemonSet"},
		"no agent on a node":    {func(i *checkup.Installation) { i.Agents[0].Status = appsv1.DaemonSetStatus{} }, checkup.ResultFailed, "wants 0 pods for 1 nodes"},
		"an agent is not ready": {func(i *checkup.Installation) { i.Agents[0].Status.NumberReady = 0 }, checkup.ResultFailed, "1 of 1 pods"},
		"the agent is older":    {func(i *checkup.Installation) { i.Agents[0].Spec.Template = image("0") }, checkup.ResultWarning, "its version is 0, the controller's 1"},
		"no PodNetwork":         {func(i *checkup.Installation) { i.PodNetworks, i.Nodes = nil, nil }, checkup.ResultWarning, "there is none"},
		"a PodNetwork has a problem": {func(i *checkup.Installation) {
			i.PodNetworks[0].StatusConditions().SetFalse(v1alpha1.ConditionSubnetsReady, "SubnetNotFound", "subnet-1 does not exist")
		}, checkup.ResultFailed, "SubnetsReady is False (SubnetNotFound): subnet-1 does not exist"},
		"nodes are being replaced": {func(i *checkup.Installation) {
			i.PodNetworks[0].StatusConditions().SetFalse(v1alpha1.ConditionMigrationComplete, "NodesOutdated", "1 of 1 nodes")
		}, checkup.ResultWarning, "MigrationComplete"},
		"the spec is newer than the status": {func(i *checkup.Installation) { i.PodNetworks[0].Generation = 9 }, checkup.ResultFailed, "no controller has looked"},
		"no NodePool":                       {func(i *checkup.Installation) { i.NodePools = nil }, checkup.ResultWarning, "no node is launched"},
		"a node's ENIConfig is gone":        {func(i *checkup.Installation) { i.ENIConfigs = nil }, checkup.ResultFailed, "their ENIConfig us-east-1a does not exist (1: n1)"},
		"a node's PodNetwork is gone":       {func(i *checkup.Installation) { i.PodNetworks[0].Name = "other" }, checkup.ResultFailed, "which is no PodNetwork"},
		"a node gives no addresses": {func(i *checkup.Installation) {
			c := &i.Nodes[0].Status.Conditions[0]
			c.Status, c.Reason, c.Message = corev1.ConditionFalse, "MissingIAMPermissions", "the role lacks a right"
		}, checkup.ResultFailed, "MissingIAMPermissions: the role lacks a right"},
	} {
		t.Run(name, func(t *testing.T) {
			i := healthy()
			test.change(&i)
			checks := checkup.Examine(i)
			at := slices.IndexFunc(checks, func(c checkup.Check) bool { return c.Result != checkup.ResultOK })
			require.GreaterOrEqual(t, at, 0, "%+v", checks)
			require.Equal(t, test.result, checks[at].Result, "%+v", checks[at])
			require.Contains(t, checks[at].Message, test.says)
			require.Equal(t, test.result == checkup.ResultFailed, checks.Failed())
		})
	}
}
