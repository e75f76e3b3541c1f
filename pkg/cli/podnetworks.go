// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/awslabs/operatorpkg/status"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// PodNetworks of the cluster, or the one of the name. There being none is an error that says what to do.
func PodNetworks(ctx context.Context, c client.Reader, name string) ([]v1alpha1.PodNetwork, error) {
	list := &v1alpha1.PodNetworkList{}
	err := c.List(ctx, list)
	switch {
	case err != nil:
		return nil, Explain(err)
	case len(list.Items) == 0:
		return nil, errors.New("there is no PodNetwork in this cluster: apply one (an empty spec uses the ENIConfigs named after the zones)")
	case name == "":
		return list.Items, nil
	}
	names := make([]string, 0, len(list.Items))
	for i := range list.Items {
		names = append(names, list.Items[i].Name)
	}
	i := slices.Index(names, name)
	if i < 0 {
		return nil, fmt.Errorf("there is no PodNetwork %s; there are %s", name, strings.Join(names, ", "))
	}
	return list.Items[i : i+1], nil
}

// Ready is the condition of a PodNetwork as it is now, nil when no controller has looked at it since it was made or changed.
func Ready(network *v1alpha1.PodNetwork) *status.Condition {
	conditions := network.GetConditions() // StatusConditions would make the condition where there is none
	i := slices.IndexFunc(conditions, func(c status.Condition) bool { return c.Type == status.ConditionReady })
	if i < 0 || conditions[i].ObservedGeneration < network.Generation {
		return nil
	}
	return &conditions[i]
}
