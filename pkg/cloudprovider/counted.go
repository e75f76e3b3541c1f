// SPDX-License-Identifier: Apache-2.0

package cloudprovider

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	crmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"
	karpv1 "sigs.k8s.io/karpenter/pkg/apis/v1"
	"sigs.k8s.io/karpenter/pkg/cloudprovider"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

var launches = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "dovetail_launches_total",
	Help: "Nodes launched on a pod network, by the geometry and max-pods of their group of instance types, and by allocation.",
}, []string{"pod_network", "enis", "ips_per_eni", "max_pods", "allocation"})

func init() { crmetrics.Registry.MustRegister(launches) }

// Counted counts what is launched on pod networks.
func Counted(provider cloudprovider.CloudProvider) cloudprovider.CloudProvider {
	return counted{provider}
}

type counted struct{ cloudprovider.CloudProvider }

func (c counted) Create(ctx context.Context, claim *karpv1.NodeClaim) (*karpv1.NodeClaim, error) {
	created, err := c.CloudProvider.Create(ctx, claim)
	if err != nil {
		return nil, err
	}
	if label := created.Labels; label[v1alpha1.LabelPodNetwork] != "" {
		launches.WithLabelValues(label[v1alpha1.LabelPodNetwork], label[v1alpha1.LabelENIs], label[v1alpha1.LabelIPsPerENI],
			label[v1alpha1.LabelMaxPods], label[v1alpha1.LabelAllocation]).Inc()
	}
	return created, nil
}
