// SPDX-License-Identifier: Apache-2.0

package kubelet_test

import (
	"os"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
)

// testRefusedWrites: a status, and a pod's end, that could not be written are written when they can be.
func (m *machine) testRefusedWrites(t *testing.T) {
	refuse := func(name string, rule admissionv1.NamedRuleWithOperations, condition string) (allow func()) {
		t.Helper()
		policies, bindings := m.client.AdmissionregistrationV1().ValidatingAdmissionPolicies(), m.client.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
		rule.APIGroups, rule.APIVersions = []string{""}, []string{"v1"}
		_, err := policies.Create(t.Context(), &admissionv1.ValidatingAdmissionPolicy{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec: admissionv1.ValidatingAdmissionPolicySpec{
				MatchConstraints: &admissionv1.MatchResources{ResourceRules: []admissionv1.NamedRuleWithOperations{rule}},
				MatchConditions:  []admissionv1.MatchCondition{{Name: "ours", Expression: condition}},
				Validations:      []admissionv1.Validation{{Expression: "false", Message: "not now"}},
			},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		_, err = bindings.Create(t.Context(), &admissionv1.ValidatingAdmissionPolicyBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name},
			Spec:       admissionv1.ValidatingAdmissionPolicyBindingSpec{PolicyName: name, ValidationActions: []admissionv1.ValidationAction{admissionv1.Deny}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
		return func() { require.NoError(t, bindings.Delete(t.Context(), name, metav1.DeleteOptions{})) }
	}
	rule := func(operation admissionv1.OperationType, resource string) admissionv1.NamedRuleWithOperations {
		return admissionv1.NamedRuleWithOperations{RuleWithOperations: admissionv1.RuleWithOperations{
			Operations: []admissionv1.OperationType{operation}, Rule: admissionv1.Rule{Resources: []string{resource}},
		}}
	}
	container := []corev1.Container{{Name: "web", Image: "nginx"}}
	probe := m.waitReady(t, m.create(t, pod("unheard-probe", corev1.PodSpec{HostNetwork: true, Containers: container})))
	refused := func(t *testing.T, try func() error) { // the API server has read the policy
		t.Helper()
		eventually(t, func(c *assert.CollectT) { require.ErrorContains(c, try(), "not now") })
	}

	allow := refuse("unheard-status", rule(admissionv1.Update, "pods/status"), "object.metadata.name.startsWith('unheard')")
	refused(t, func() error {
		_, err := m.client.CoreV1().Pods(probe.Namespace).Patch(t.Context(), probe.Name, types.StrategicMergePatchType, []byte(`{"status":{"message":"a try"}}`), metav1.PatchOptions{}, "status")
		return err
	})
	unheard := m.create(t, pod("unheard", corev1.PodSpec{HostNetwork: true, Containers: container}))
	eventually(t, func(c *assert.CollectT) { require.Contains(c, m.readLog(c), "writing a pod's status") })
	require.Equal(t, corev1.PodPending, m.get(t, unheard).Status.Phase)
	allow()
	unheard = m.waitReady(t, unheard)

	allow = refuse("unheard-end", rule(admissionv1.Delete, "pods"), "oldObject.metadata.name.startsWith('unheard') && request.options.gracePeriodSeconds == 0")
	refused(t, func() error {
		return m.client.CoreV1().Pods(probe.Namespace).Delete(t.Context(), probe.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64), DryRun: []string{metav1.DryRunAll}})
	})
	require.NoError(t, m.client.CoreV1().Pods(unheard.Namespace).Delete(t.Context(), unheard.Name, metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](1)}))
	eventually(t, func(c *assert.CollectT) { require.Contains(c, m.readLog(c), "deleting a pod") })
	allow()
	m.remove(t, unheard)
	m.remove(t, probe)
}

func (m *machine) readLog(t require.TestingT) string {
	text, err := os.ReadFile(m.log)
	require.NoError(t, err)
	return string(text)
}
