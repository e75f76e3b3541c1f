// SPDX-License-Identifier: Apache-2.0

// Package v1alpha1 is Dovetail's API: the PodNetwork and NodeMigration objects, and the labels and annotations that the controller and
// the node agent agree on.
//
// +kubebuilder:object:generate=true
// +groupName=dovetail.dev
package v1alpha1

import (
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/scheme"
)

// Group is the API group of every object of Dovetail's own.
const Group = "dovetail.dev"

var (
	// GroupVersion of the objects in this package.
	GroupVersion = schema.GroupVersion{Group: Group, Version: "v1alpha1"}

	schemeBuilder = (&scheme.Builder{GroupVersion: GroupVersion}).Register(&PodNetwork{}, &PodNetworkList{}, &NodeMigration{}, &NodeMigrationList{})

	// AddToScheme teaches a scheme the objects in this package.
	AddToScheme = schemeBuilder.AddToScheme
)
