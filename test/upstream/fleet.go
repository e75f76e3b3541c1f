// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// fleet is what was initialized of nodes while specs ran: they prove little about Dovetail unless the nodes are on the pod
// network.
type fleet struct {
	mu    sync.Mutex
	nodes map[types.UID]*corev1.Node
}

// watch until the context ends.
func (f *fleet) watch(ctx context.Context, kube client.WithWatch) {
	f.nodes = map[types.UID]*corev1.Node{}
	wait.UntilWithContext(ctx, func(ctx context.Context) { // API servers end watches now and then
		events, err := kube.Watch(ctx, &corev1.NodeList{}, client.HasLabels{karpenter.NodeInitializedLabelKey})
		if err != nil {
			return
		}
		defer events.Stop()
		for event := range events.ResultChan() {
			if node, ok := event.Object.(*corev1.Node); ok {
				f.add(node)
			}
		}
	}, time.Second)
}

func (f *fleet) add(node *corev1.Node) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.nodes[node.UID] = node
}

// check counts the nodes, and names those that were not on a pod network.
func (f *fleet) check() (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var off []string
	for _, node := range f.nodes {
		if node.Labels[v1alpha1.LabelPodNetwork] == "" {
			off = append(off, node.Name)
		}
	}
	if len(off) > 0 {
		return len(f.nodes), fmt.Errorf("nodes were not on a pod network: %v", off)
	}
	return len(f.nodes), nil
}
