// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// ENIConfigOf returns the name of the ENIConfig that serves a node. The order is aws-node's.
func ENIConfigOf(network *v1alpha1.PodNetwork, node metav1.Object) string {
	return cmp.Or(
		node.GetLabels()[v1alpha1.LabelExternalENIConfig],
		node.GetAnnotations()[v1alpha1.AnnotationENIConfig],
		node.GetLabels()[nodeLabel(network)],
		v1alpha1.DefaultENIConfig,
	)
}

// NamedAfterZones tells that a node's zone names its ENIConfig, so that there is one a zone and no label to choose it by.
func NamedAfterZones(network *v1alpha1.PodNetwork) bool {
	return nodeLabel(network) == corev1.LabelTopologyZone
}

// nodeLabel whose value on a node names its ENIConfig.
func nodeLabel(network *v1alpha1.PodNetwork) string {
	return cmp.Or(network.Spec.ENIConfigs.NodeLabel, corev1.LabelTopologyZone)
}
