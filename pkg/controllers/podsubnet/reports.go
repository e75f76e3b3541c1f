// SPDX-License-Identifier: Apache-2.0

package podsubnet

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	controllerruntime "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// newReport matches nodes whose agent has something new to say of its pod subnet.
var newReport = predicate.Funcs{
	CreateFunc: func(e event.CreateEvent) bool { return reported(e.Object) != "" },
	UpdateFunc: func(e event.UpdateEvent) bool {
		return reported(e.ObjectNew) != "" && reported(e.ObjectNew) != reported(e.ObjectOld)
	},
	DeleteFunc: func(event.DeleteEvent) bool { return false },
}

func reported(node client.Object) string {
	if node.GetLabels()[v1alpha1.LabelPodNetwork] == "" {
		return ""
	}
	return node.GetAnnotations()[v1alpha1.AnnotationPodSubnetRefused]
}

func (c *Controller) registerReports(m manager.Manager) error {
	return controllerruntime.NewControllerManagedBy(m).Named("podsubnet.node").For(&corev1.Node{}, builder.WithPredicates(newReport)).
		Complete(reconcile.AsReconciler[*corev1.Node](m.GetClient(), reconcile.ObjectReconciler[*corev1.Node](reports{c})))
}

// reports of nodes.
type reports struct{ *Controller }

// Reconcile keeps launches from a pod subnet when a node could not get addresses of it. A launch itself asks for none where
// allocation is dynamic, so EC2 says it to the nodes first.
func (r reports) Reconcile(ctx context.Context, node *corev1.Node) (reconcile.Result, error) {
	refusal, err := v1alpha1.ParsePodSubnetRefusal(reported(node))
	if err != nil {
		return reconcile.Result{}, reconcile.TerminalError(fmt.Errorf("annotation %s of node %s, %w", v1alpha1.AnnotationPodSubnetRefused, node.Name, err))
	}
	if r.Reader.Ledger.ReportRefused(refusal.Subnet, refusal.Code, refusal.At) {
		refusedNodes.WithLabelValues(refusal.Subnet, refusal.Code).Inc()
		log.FromContext(ctx).Info("no node is launched on a pod subnet for a while: EC2 refused a node addresses of it",
			"subnet", refusal.Subnet, "code", refusal.Code, "node", node.Name)
	}
	return reconcile.Result{}, nil
}
