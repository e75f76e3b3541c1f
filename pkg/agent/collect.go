// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/cni"
)

const (
	// collectPeriod is between two looks for what killed plugins and runtimes left.
	collectPeriod = time.Minute
	// collectGrace is how long something has to look left behind, in all looks. The kubelet gives the runtime four minutes
	// for a sandbox (twice its runtimeRequestTimeout), so no ADD or DEL is in flight that long. It is measured by this
	// process's monotonic clock: a lease's own time is of a wall clock that jumps when a node has just booted.
	collectGrace = 5 * time.Minute
)

// collector releases leases whose pods are gone, and deletes pods' links that no lease knows. Runtimes do that by DEL and
// GC; this is for those that forgot a sandbox, or do not know GC.
//
// An address that a pod still has must never be freed, so all of this has to hold: the host's end of the lease's link is
// missing, has been for the grace, and is still while the leases are locked; and the API server, asked then and not from a
// cache, knows no living pod on this node that has the address or waits for one under the lease's name. The kernel alone is not
// enough: somebody may have deleted the link of a pod that Services still send to. So nothing is freed while the API server is
// away: what is left behind costs an address for that long, what is freed wrongly costs two pods.
type collector struct {
	leases *lease.Store
	log    *slog.Logger
	links  func() ([]datapath.PodLink, error)
	pods   func(context.Context) ([]corev1.Pod, error) // of this node, as of now
	delete func(datapath.PodLink) error
	now    func() time.Time
	// collected is told of each thing that was taken away.
	collected func(kind remainKind)

	since map[string]time.Time // of remains that were seen in each look until the last
}

type remainKind string

const (
	remainLease remainKind = "lease"
	remainLink  remainKind = "link"
)

// remain is a lease without a link, or a link without a lease.
type remain struct {
	kind    remainKind
	key     string // another ADD's would be another
	address netip.Addr
	pod     string
	lease   lease.Lease
	link    datapath.PodLink
}

// remainsOf compares leases with links. What plugins are at work on looks left behind too.
func remainsOf(leases []lease.Lease, links []datapath.PodLink) (remains []remain) {
	linked, leased := map[string]bool{}, map[string]bool{}
	for _, link := range links {
		linked[link.Name] = true
	}
	for _, l := range leases {
		name := cni.HostName(l.Owner)
		leased[name] = true
		if !linked[name] {
			key := fmt.Sprintf("lease %s %s %s %d", l.Address, l.ContainerID, l.IfName, l.Time.UnixNano())
			remains = append(remains, remain{kind: remainLease, key: key, address: l.Address, pod: l.Pod, lease: l})
		}
	}
	for _, link := range links {
		if !leased[link.Name] {
			key := fmt.Sprintf("link %s %d", link.Name, link.Index)
			remains = append(remains, remain{kind: remainLink, key: key, address: link.Address, link: link})
		}
	}
	return remains
}

// claimed tells whether a pod of the node may use what remains: it has the address, or it has none yet and the lease is by
// its name. A link without a lease and without a route carries nothing to anybody, and is nobody's.
func claimed(r remain, pods []corev1.Pod) bool {
	for _, pod := range pods {
		if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
			continue // without a sandbox; its status keeps the address
		}
		if pod.Status.PodIP == "" && !pod.Spec.HostNetwork && pod.Namespace+"/"+pod.Name == r.pod {
			return true
		}
		if r.address.IsValid() && pod.Status.PodIP == r.address.String() {
			return true
		}
	}
	return false
}

// due are remains that were there in each look for the grace, this one included.
func (c *collector) due(remains []remain) map[string]bool {
	now := c.now()
	since, due := map[string]time.Time{}, map[string]bool{}
	for _, r := range remains {
		first, seen := c.since[r.key]
		if !seen {
			first = now
		}
		since[r.key] = first
		if now.Sub(first) >= collectGrace {
			due[r.key] = true
		}
	}
	c.since = since
	return due
}

func (c *collector) look(ctx context.Context) error {
	leases, err := c.leases.List()
	if err != nil {
		return err
	}
	links, err := c.links()
	if err != nil {
		return err
	}
	due := c.due(remainsOf(leases, links))
	var pods []corev1.Pod
	if len(due) > 0 {
		if pods, err = c.pods(ctx); err != nil {
			return fmt.Errorf("%d leases or links look left behind and stay until the API server says which pods live: %w", len(due), err)
		}
	}
	return c.leases.Sweep(time.Now(), func(leases []lease.Lease) (gone []lease.Lease, err error) {
		links, err := c.links()
		if err != nil {
			return nil, err
		}
		var errs []error
		for _, r := range remainsOf(leases, links) {
			if !due[r.key] {
				continue
			}
			if claimed(r, pods) {
				c.log.Error("a living pod has lost its link or its lease: delete the pod", "kind", r.kind, "address", r.address, "pod", r.pod, "link", r.link.Name)
				continue
			}
			if r.kind == remainLease {
				gone = append(gone, r.lease)
			} else if err := c.delete(r.link); err != nil {
				errs = append(errs, err)
				continue
			}
			c.log.Info("collected what a pod left behind", "kind", r.kind, "address", r.address, "pod", r.pod, "link", r.link.Name)
			c.collected(r.kind)
		}
		return gone, errors.Join(errs...)
	})
}

// collect looks from time to time until the context ends.
func (a *Agent) collect(ctx context.Context, clientset kubernetes.Interface) {
	c := &collector{
		leases: a.leases, log: a.log, now: time.Now, delete: datapath.PodLink.Delete, collected: a.metrics.collectedRemain,
		links: func() ([]datapath.PodLink, error) { return datapath.PodLinks(cni.HostPrefix, pool.PodTable) },
		pods: func(ctx context.Context) ([]corev1.Pod, error) {
			list, err := clientset.CoreV1().Pods("").List(ctx, metav1.ListOptions{FieldSelector: fields.OneTermEqualSelector("spec.nodeName", a.opts.NodeName).String()})
			if err != nil {
				return nil, err
			}
			return list.Items, nil
		},
	}
	ticker := time.NewTicker(collectPeriod)
	defer ticker.Stop()
	for {
		if err := c.look(ctx); err != nil && ctx.Err() == nil {
			a.log.Warn("looking for what pods left behind; again in a while", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
