// SPDX-License-Identifier: Apache-2.0

package migration

import (
	"context"
	"time"

	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

const (
	// settle gathers what changes at once: a round of a controller writes several objects.
	settle = 300 * time.Millisecond
	// refresh shows what no object tells of: time that passes, and events that keep Karpenter back.
	refresh = 5 * time.Second
)

// Watch shows the progress whenever it changes, and now and then between, until all is done or the context ends.
func Watch(ctx context.Context, c client.WithWatch, name string, show func(Progress) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	changed := make(chan struct{}, 1)
	for _, list := range []client.ObjectList{&v1alpha1.NodeMigrationList{}, &v1alpha1.PodNetworkList{}} {
		go follow(ctx, c, list, changed)
	}
	ticker := time.NewTicker(refresh)
	defer ticker.Stop()
	for {
		now, err := Read(ctx, c, name, time.Now())
		if ctx.Err() != nil {
			return nil //nolint:nilerr // whoever watched has seen enough
		}
		if err != nil {
			return err
		}
		if err := show(now); err != nil || now.Done() {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-changed:
			pause(ctx, settle)
		}
	}
}

// follow the objects of a kind, until the context ends.
func follow(ctx context.Context, c client.WithWatch, list client.ObjectList, changed chan<- struct{}) {
	for ctx.Err() == nil {
		events, err := c.Watch(ctx, list)
		if err != nil { // Read says what is wrong, if anything
			pause(ctx, refresh)
			continue
		}
		tell(events, changed)
		events.Stop()
	}
}

func tell(events watch.Interface, changed chan<- struct{}) {
	for range events.ResultChan() {
		select {
		case changed <- struct{}{}:
		default: // nobody has looked since the one before
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
