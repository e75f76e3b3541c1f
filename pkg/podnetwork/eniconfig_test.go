// SPDX-License-Identifier: Apache-2.0

package podnetwork_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

func TestANodesENIConfigIsChosenInTheOrderOfAWSNode(t *testing.T) {
	network, node := &v1alpha1.PodNetwork{}, &metav1.ObjectMeta{}
	require.Equal(t, "default", podnetwork.ENIConfigOf(network, node))
	node.Labels = map[string]string{"topology.kubernetes.io/zone": "a"}
	require.Equal(t, "a", podnetwork.ENIConfigOf(network, node))
	node.Annotations = map[string]string{v1alpha1.AnnotationENIConfig: "annotated"}
	require.Equal(t, "annotated", podnetwork.ENIConfigOf(network, node))
	node.Labels[v1alpha1.LabelExternalENIConfig] = "external"
	require.Equal(t, "external", podnetwork.ENIConfigOf(network, node))
}
