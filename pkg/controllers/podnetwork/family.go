// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"context"
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// ClusterFamily is the family of pods' and Services' addresses. EKS fixes it when a cluster is created, and the Service that every
// cluster has shows it: that takes no right in AWS.
func ClusterFamily(ctx context.Context, cluster kubernetes.Interface) (corev1.IPFamily, error) {
	service, err := cluster.CoreV1().Services(metav1.NamespaceDefault).Get(ctx, "kubernetes", metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("getting Service kubernetes, which shows the cluster's address family, %w", err)
	}
	if len(service.Spec.IPFamilies) == 0 {
		return "", errors.New("the Service kubernetes has no address family")
	}
	return service.Spec.IPFamilies[0], nil
}
