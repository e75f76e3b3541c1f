// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	"github.com/vishvananda/netlink"
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

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
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
	clientset, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: clientset.CoreV1().Events("")})
	a.events = broadcaster.NewRecorder(newScheme(), corev1.EventSource{Component: "dovetail-agent", Host: a.opts.NodeName})
	return c, nil
}

// nodeReference is what events are about. The kubelet names a node by its name as UID too, and so do people who look.
func (a *Agent) nodeReference() *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: a.opts.NodeName, UID: types.UID(a.opts.NodeName)}}
}

// watchKernel wakes the loop when somebody changes links, routes or rules. Bursts are one event.
func (a *Agent) watchKernel(ctx context.Context) error {
	links, routes := make(chan netlink.LinkUpdate, 64), make(chan netlink.RouteUpdate, 64)
	failed := func(err error) { a.log.Warn("the kernel's events were interrupted", "error", err) }
	if err := netlink.LinkSubscribeWithOptions(links, ctx.Done(), netlink.LinkSubscribeOptions{ErrorCallback: failed}); err != nil {
		return fmt.Errorf("subscribing to links: %w", err)
	}
	if err := netlink.RouteSubscribeWithOptions(routes, ctx.Done(), netlink.RouteSubscribeOptions{ErrorCallback: failed}); err != nil {
		return fmt.Errorf("subscribing to routes: %w", err)
	}
	go func() {
		const settle = 200 * time.Millisecond
		var timer <-chan time.Time
		for links != nil || routes != nil {
			select {
			case _, ok := <-links:
				if !ok {
					links = nil
				}
			case _, ok := <-routes:
				if !ok {
					routes = nil
				}
			case <-timer:
				timer = nil
				a.poke()
				continue
			}
			if timer == nil {
				timer = time.After(settle)
			}
		}
	}()
	return nil
}
