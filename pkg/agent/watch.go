// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/kubernetes"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/record"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/cni"
)

func newScheme() *runtime.Scheme {
	scheme := runtime.NewScheme()
	utilruntime.Must(clientgoscheme.AddToScheme(scheme))
	utilruntime.Must(v1alpha1.AddToScheme(scheme))
	utilruntime.Must(eniconfig.AddToScheme(scheme))
	return scheme
}

// connect starts a cache of this node's own objects and of the few that are for all nodes. Each change wakes the loop.
func (a *Agent) connect(ctx context.Context, config *rest.Config) (client.Reader, error) {
	own := func(field string) cache.ByObject {
		return cache.ByObject{Field: fields.OneTermEqualSelector(field, a.opts.NodeName)}
	}
	c, err := cache.New(config, cache.Options{
		Scheme: newScheme(),
		ByObject: map[client.Object]cache.ByObject{
			&corev1.Pod{}: own("spec.nodeName"), &corev1.Node{}: own("metadata.name"),
		},
		DefaultTransform: cache.TransformStripManagedFields(),
	})
	if err != nil {
		return nil, fmt.Errorf("connecting to the API server: %w", err)
	}
	for _, object := range []client.Object{&corev1.Pod{}, &corev1.Node{}, &v1alpha1.PodNetwork{}, &eniconfig.ENIConfig{}} {
		informer, err := c.GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, fmt.Errorf("watching %T: %w", object, err)
		}
		wake := toolscache.ResourceEventHandlerFuncs{
			AddFunc: func(any) { a.poke() }, UpdateFunc: func(any, any) { a.poke() }, DeleteFunc: func(any) { a.poke() },
		}
		if _, err := informer.AddEventHandler(wake); err != nil {
			return nil, fmt.Errorf("watching %T: %w", object, err)
		}
	}
	go func() {
		if err := c.Start(ctx); err != nil {
			a.log.Error("the cache of the cluster's objects ended", "error", err)
		}
	}()
	if !c.WaitForCacheSync(ctx) {
		return nil, fmt.Errorf("reading the cluster's objects: %w", context.Cause(ctx))
	}
	return c, nil
}

// newRecorder of events, which may be used by any goroutine.
func newRecorder(ctx context.Context, clientset kubernetes.Interface, node string) record.EventRecorder {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: clientset.CoreV1().Events("")})
	return broadcaster.NewRecorder(newScheme(), corev1.EventSource{Component: "dovetail-agent", Host: node})
}

// nodeReference is what events are about. The kubelet names a node by its name as UID too, and so do people who look.
func (a *Agent) nodeReference() *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.opts.NodeName, UID: types.UID(a.opts.NodeName)}}
}

// keepKernel repairs the data path whenever somebody changes it, and wakes the loop when links come or go.
func (a *Agent) keepKernel(ctx context.Context) {
	for ctx.Err() == nil {
		if err := a.kernel.Run(ctx); err != nil {
			a.log.Error("watching the kernel; again in a while", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(period):
				a.poke()
			}
		}
	}
}

// linksChanged also when a pod's link went: its address rests now.
func (a *Agent) linksChanged() {
	resting, err := a.leases.Cooling(a.cooldown(), time.Now())
	if err == nil {
		_, err = a.releases.Forget(resting)
	}
	if err != nil {
		a.log.Warn("connections of a released address may meet its next pod", "error", err)
	}
	a.poke()
}

// wiring is how long after a pod got its address the plugin may still be making its link and route: milliseconds, and seconds where a node
// starts many pods at once.
const wiring = 10 * time.Second

// wiredPods lists who holds which address, and by which link.
func (a *Agent) wiredPods() ([]datapath.Pod, error) {
	leases, err := a.leases.List()
	if err != nil {
		return nil, err
	}
	pods := make([]datapath.Pod, 0, len(leases))
	for _, l := range leases {
		pods = append(pods, datapath.Pod{Address: l.Address, Link: cni.HostName(l.Owner), Starting: time.Since(l.Time) < wiring})
	}
	return pods, nil
}
