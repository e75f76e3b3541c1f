// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"path"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Requests are made at a Service all the time, by a program on a node. What kube-proxy does for a Service is done for it here: it is
// told of the ready endpoints whenever they change.
type Requests struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer
	// unwatch ends what watched waits for: the following of the endpoints. counted: all that the program said was read.
	unwatch          context.CancelFunc
	watched, counted sync.WaitGroup

	mu       sync.Mutex
	answered int
	failures []string
	err      error
}

// StartRequests makes twenty a second from the system node, until Stop. The Service has ready endpoints.
func (s *Sandbox) StartRequests(ctx context.Context, service client.ObjectKey) (*Requests, error) {
	from, err := s.groupNode(ctx, "system")
	if err != nil {
		return nil, err
	}
	r := &Requests{cmd: s.command(ctx, s.exec("--instance", from, s.netprobe("request", "-every", "50ms", "-timeout", "2s"))...)}
	r.cmd.Stderr = &r.stderr
	stdout, err := r.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	watching, cancel := context.WithCancel(ctx)
	r.unwatch = cancel
	events, slices, err := s.endpoints(watching, service)
	if err != nil {
		cancel()
		return nil, err
	}
	r.watched.Go(func() { r.follow(watching, events, slices) })
	if err := r.cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("starting requests at Service %s: %w", service, err)
	}
	r.counted.Go(func() { r.count(stdout) })
	return r, nil
}

// groupNode returns the instance of a node of a managed node group.
func (s *Sandbox) groupNode(ctx context.Context, group string) (string, error) {
	var nodes corev1.NodeList
	if err := s.Kube.List(ctx, &nodes, client.MatchingLabels{nodeGroupLabel: group}); err != nil {
		return "", fmt.Errorf("listing nodes: %w", err)
	}
	if len(nodes.Items) == 0 {
		return "", fmt.Errorf("there is no node of group %s", group)
	}
	return path.Base(nodes.Items[0].Spec.ProviderID), nil
}

// nodeGroupLabel is on the nodes of managed node groups.
const nodeGroupLabel = "eks.amazonaws.com/nodegroup"

// endpoints of a Service, and what changes from then on.
func (s *Sandbox) endpoints(ctx context.Context, service client.ObjectKey) (watch.Interface, map[string]*discoveryv1.EndpointSlice, error) {
	of := []client.ListOption{client.InNamespace(service.Namespace), client.MatchingLabels{discoveryv1.LabelServiceName: service.Name}}
	found := map[string]*discoveryv1.EndpointSlice{}
	list := &discoveryv1.EndpointSliceList{}
	err := until(ctx, "Service "+service.String()+" has ready endpoints", func(ctx context.Context) error {
		if err := s.Kube.List(ctx, list, of...); err != nil {
			return err
		}
		for i := range list.Items {
			found[list.Items[i].Name] = &list.Items[i]
		}
		if len(ready(found)) == 0 {
			return errors.New("it has none")
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	// A watch begins with what exists.
	events, err := s.Kube.Watch(ctx, &discoveryv1.EndpointSliceList{}, of...)
	return events, found, err
}

func ready(endpointSlices map[string]*discoveryv1.EndpointSlice) (addrs []string) {
	for _, name := range slices.Sorted(maps.Keys(endpointSlices)) {
		slice := endpointSlices[name]
		for _, endpoint := range slice.Endpoints {
			if !ptr.Deref(endpoint.Conditions.Ready, true) {
				continue
			}
			for _, port := range slice.Ports {
				addrs = append(addrs, fmt.Sprintf("%s:%d", endpoint.Addresses[0], *port.Port))
			}
		}
	}
	return addrs
}

func (r *Requests) tell(slices map[string]*discoveryv1.EndpointSlice) error {
	_, err := fmt.Fprintln(r.stdin, strings.Join(ready(slices), " "))
	return err
}

func (r *Requests) follow(ctx context.Context, events watch.Interface, slices map[string]*discoveryv1.EndpointSlice) {
	defer events.Stop()
	_ = r.tell(slices) // where the program has ended, Stop says so
	for event := range events.ResultChan() {
		slice, ok := event.Object.(*discoveryv1.EndpointSlice)
		if !ok {
			break
		}
		if event.Type == watch.Deleted {
			delete(slices, slice.Name)
		} else {
			slices[slice.Name] = slice
		}
		if err := r.tell(slices); err != nil {
			break
		}
	}
	if ctx.Err() == nil {
		r.fail(errors.New("what the Service's endpoints are was not known to the end"))
	}
}

func (r *Requests) count(stdout io.Reader) {
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		r.mu.Lock()
		if failure, failed := strings.CutPrefix(lines.Text(), "failed"); failed {
			r.failures = append(r.failures, strings.TrimSpace(failure))
		} else {
			r.answered++
		}
		r.mu.Unlock()
	}
}

func (r *Requests) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errors.Join(r.err, err)
}

// Count says how many requests were answered, and how those failed that were not.
func (r *Requests) Count() (answered int, failures []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.answered, slices.Clone(r.failures)
}

// Stop ends them, and says whether they were made all the time.
func (r *Requests) Stop() error {
	r.unwatch()
	r.watched.Wait()
	_ = r.stdin.Close() // the program ends with its input
	r.counted.Wait()
	err := r.cmd.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("making requests: %w: %s", err, strings.TrimSpace(r.stderr.String()))
	}
	return errors.Join(r.err, err)
}
