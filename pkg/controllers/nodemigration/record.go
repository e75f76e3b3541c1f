// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// record is what a migration writes on a node, in AnnotationNodeMigration: all that it has to know after a restart.
type record struct {
	Migration string `json:"migration"`
	// CordonedAt is when the migration cordoned the node; nil when somebody else had done it before.
	CordonedAt *metav1.Time `json:"cordonedAt,omitempty"`
	// Since is when the node's turn came; nil while it is only cordoned.
	Since *metav1.Time `json:"since,omitempty"`
	// Owners of the pods that are to leave. They are written before the pods are evicted.
	Owners []owner `json:"owners,omitempty"`
	// Drained is when the node was empty and its pods' owners had their replicas Ready elsewhere.
	Drained *metav1.Time `json:"drained,omitempty"`
	// Terminated says that EC2 was told to end the instance.
	Terminated bool `json:"terminated,omitempty"`
	// Group is the Auto Scaling group of the instance, when it was told to end.
	Group string `json:"group,omitempty"`
}

// owner controls pods.
type owner struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	// Ready counts its pods that were Ready before the node's were evicted.
	Ready int32 `json:"ready,omitempty"`
}

// key is the owner without its count.
func (o owner) key() owner {
	o.Ready = 0
	return o
}

// inFlight nodes hold a place of the budget.
func (r *record) inFlight() bool { return r != nil && r.Since != nil && r.Drained == nil }

func (r *record) done() bool { return r != nil && r.Drained != nil }

// ended says what became of a node's instance.
func (r *record) ended() string {
	switch {
	case !r.Terminated:
		return ""
	case r.Group == "":
		return "the instance is terminated"
	}
	return fmt.Sprintf("the instance is terminated; %s starts another one until its desired capacity is lowered", r.Group)
}

func (r *record) clone() *record {
	clone := *r
	clone.Owners = slices.Clone(r.Owners)
	return &clone
}

func (r *record) encode() string {
	encoded, err := json.Marshal(r)
	if err != nil {
		panic(fmt.Sprintf("encoding strings, times and integers: %v", err)) // cannot be: see the struct
	}
	return string(encoded)
}

// recordOf reads a node's record, nil when it has none.
func recordOf(node *corev1.Node) (*record, error) {
	encoded, ok := node.Annotations[v1alpha1.AnnotationNodeMigration]
	if !ok {
		return nil, nil
	}
	r := &record{}
	if err := json.Unmarshal([]byte(encoded), r); err != nil {
		return nil, fmt.Errorf("annotation %s of node %s, %w", v1alpha1.AnnotationNodeMigration, node.Name, err)
	}
	for _, at := range []*metav1.Time{r.CordonedAt, r.Since, r.Drained} {
		if at != nil && (at.UTC().Year() < 0 || at.UTC().Year() > lastYear) {
			return nil, fmt.Errorf("annotation %s of node %s, %s is no time that can be written again", v1alpha1.AnnotationNodeMigration, node.Name, at)
		}
	}
	return r, nil
}

// lastYear of RFC 3339 is out of it by a time zone only.
const lastYear = 9999

// ownerOf returns the controller of a pod.
func ownerOf(pod *corev1.Pod) (owner, bool) {
	controller := metav1.GetControllerOfNoCopy(pod)
	if controller == nil {
		return owner{}, false
	}
	return owner{Kind: controller.Kind, Namespace: pod.Namespace, Name: controller.Name}, true
}
