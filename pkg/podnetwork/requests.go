// SPDX-License-Identifier: Apache-2.0

package podnetwork

import (
	"context"

	"github.com/samber/lo"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// Requests wakes the controller of PodNetworks for all of them that are wanted, whatever has changed: there are few.
func Requests(reader client.Reader, wanted func(*v1alpha1.PodNetwork) bool) handler.MapFunc {
	return func(ctx context.Context, _ client.Object) []reconcile.Request {
		networks := &v1alpha1.PodNetworkList{}
		if err := reader.List(ctx, networks); err != nil {
			log.FromContext(ctx).Error(err, "listing PodNetworks")
			return nil
		}
		return lo.FilterMap(networks.Items, func(n v1alpha1.PodNetwork, _ int) (reconcile.Request, bool) {
			return reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&n)}, wanted(&n)
		})
	}
}

// All are wanted.
func All(*v1alpha1.PodNetwork) bool { return true }
