// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"path"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
)

// nodeMonitorPeriod is the cloud controller manager's.
const nodeMonitorPeriod = 5 * time.Second

// forgetNodes is what is needed of EKS's cloud controller manager: it deletes Nodes that are not Ready and whose instances have ended.
func (d *daemon) forgetNodes(ctx context.Context) error {
	clientset, err := kubernetes.NewForConfig(d.control.RESTConfig())
	if err != nil {
		return err
	}
	factory := informers.NewSharedInformerFactory(clientset, 0)
	nodes := factory.Core().V1().Nodes().Lister()
	factory.Start(ctx.Done())
	go func() {
		ticker := time.NewTicker(nodeMonitorPeriod)
		defer ticker.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-ticker.C:
			}
			known, _ := nodes.List(labels.Everything()) // of a cache: it has no errors
			for _, node := range d.ended(known) {
				err := clientset.CoreV1().Nodes().Delete(ctx, node.Name, metav1.DeleteOptions{Preconditions: &metav1.Preconditions{UID: &node.UID}})
				if err != nil && !apierrors.IsNotFound(err) {
					d.log.Warn("deleting the node of an instance that has ended", "node", node.Name, "error", err)
				}
			}
		}
	}()
	return nil
}

// ended are the nodes to forget.
func (d *daemon) ended(nodes []*corev1.Node) []*corev1.Node {
	away := slices.DeleteFunc(slices.Clone(nodes), func(node *corev1.Node) bool {
		return slices.ContainsFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool {
			return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
		})
	})
	if len(away) == 0 {
		return nil
	}
	exists := map[string]bool{}
	for _, instance := range d.cloud.Snapshot().Instances {
		exists[instance.ID] = instance.State != "terminated"
	}
	return slices.DeleteFunc(away, func(node *corev1.Node) bool {
		return node.Spec.ProviderID == "" || exists[path.Base(node.Spec.ProviderID)]
	})
}
