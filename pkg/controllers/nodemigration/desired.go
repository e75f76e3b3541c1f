// SPDX-License-Identifier: Apache-2.0

package nodemigration

import (
	"context"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// desired replicas of an owner of a counted kind, 0 when it is deleted.
func (c *Controller) desired(ctx context.Context, o owner) (int32, error) {
	var replicas *int32
	var err error
	key := client.ObjectKey{Namespace: o.Namespace, Name: o.Name}
	switch o.Kind {
	case "ReplicaSet":
		set := &appsv1.ReplicaSet{}
		err = c.Client.Get(ctx, key, set)
		replicas = set.Spec.Replicas
	case "StatefulSet":
		set := &appsv1.StatefulSet{}
		err = c.Client.Get(ctx, key, set)
		replicas = set.Spec.Replicas
	case "ReplicationController":
		controller := &corev1.ReplicationController{}
		err = c.Client.Get(ctx, key, controller)
		replicas = controller.Spec.Replicas
	}
	switch {
	case apierrors.IsNotFound(err):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("reading %s %s, %w", o.Kind, key, err)
	case replicas == nil: // the API server sets a default
		return 1, nil
	}
	return *replicas, nil
}
