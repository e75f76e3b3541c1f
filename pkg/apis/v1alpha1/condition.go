// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"slices"

	"github.com/awslabs/operatorpkg/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// PutCondition sets a condition that does not bear on Ready, or removes it when there is none. StatusConditions would set Ready anew with each
// of them, which is the podnetwork controller's. The time is kept while the condition's status is.
func (p *PodNetwork) PutCondition(kind string, condition *status.Condition, now metav1.Time) {
	conditions := slices.Clone(p.Status.Conditions)
	defer func() { p.Status.Conditions = conditions }()
	i := slices.IndexFunc(conditions, func(c status.Condition) bool { return c.Type == kind })
	if condition == nil {
		if i >= 0 {
			conditions = slices.Delete(conditions, i, i+1)
		}
		return
	}
	next := *condition
	next.Type, next.ObservedGeneration, next.LastTransitionTime = kind, p.Generation, now
	if i < 0 {
		conditions = append(conditions, next)
		return
	}
	if conditions[i].Status == next.Status {
		next.LastTransitionTime = conditions[i].LastTransitionTime
	}
	conditions[i] = next
}
