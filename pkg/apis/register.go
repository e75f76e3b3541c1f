// SPDX-License-Identifier: Apache-2.0

// Package apis makes the controller's process know Dovetail's objects and labels.
package apis

import (
	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Register adds PodNetwork, NodeMigration and ENIConfig to the scheme, and Dovetail's labels to those that Karpenter knows: NodePools
// may require them, pods may select by them, and Karpenter derives them from the instance type instead of taking them
// as free labels. Call it once, before the manager is built: Karpenter keeps its labels in package variables.
func Register(scheme *runtime.Scheme) {
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	utilruntime.Must(eniconfig.AddToScheme(scheme))

	karpv1.RestrictedLabelDomains = karpv1.RestrictedLabelDomains.Insert(v1alpha1.Group)
	karpv1.WellKnownLabels = karpv1.WellKnownLabels.Insert(v1alpha1.Labels()...)
	karpv1.WellKnownLabels = karpv1.WellKnownLabels.Insert(v1alpha1.LabelENIConfig)
}
