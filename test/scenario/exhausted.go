// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/plan"
)

// stuckFor is how long pods that have nodes must wait with nothing coming for them before it is said that they are stuck: aws-node looks
// every five seconds.
const stuckFor = 8 * time.Second

// noAddress is what aws-node's plugin says.
const noAddress = "failed to assign an IP address to container"

// Room is what is free in the node subnets.
type Room struct {
	// Free addresses by zone.
	Free map[string]int
	// Usable and Used addresses of all of them.
	Usable, Used int
}

// NodeSubnets reads the room of the subnets that nodes are launched in: EC2's own count.
func (s *Sandbox) NodeSubnets(ctx context.Context) (Room, error) {
	room := Room{Free: map[string]int{}}
	name, value := "tag:karpenter.sh/discovery", clusterName
	out, err := s.EC2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: []ec2types.Filter{{Name: &name, Values: []string{value}}}})
	if err != nil {
		return room, fmt.Errorf("reading the node subnets: %w", err)
	}
	for _, subnet := range out.Subnets {
		cidr, err := netip.ParsePrefix(*subnet.CidrBlock)
		if err != nil {
			return room, err
		}
		usable, free := Usable(cidr), int(*subnet.AvailableIpAddressCount)
		room.Free[*subnet.AvailabilityZone] += free
		room.Usable += usable
		room.Used += usable - free
	}
	return room, nil
}

// Usable addresses of a subnet: AWS keeps five.
func Usable(cidr netip.Prefix) int { return 1<<(32-cidr.Bits()) - 5 }

// WaitRoom waits until no node subnet has so many free addresses: until aws-node has taken what it keeps warm.
func (s *Sandbox) WaitRoom(ctx context.Context, free int) error {
	return until(ctx, fmt.Sprintf("each node subnet has fewer than %d free addresses", free), func(ctx context.Context) error {
		room, err := s.NodeSubnets(ctx)
		if err != nil {
			return err
		}
		for zone, left := range room.Free {
			if left >= free {
				return fmt.Errorf("that of %s has %d", zone, left)
			}
		}
		return nil
	})
}

// Scale sets the workload's replicas.
func (s *Sandbox) Scale(ctx context.Context, workload Workload, replicas int) (Workload, error) {
	deployment := &appsv1.Deployment{}
	deployment.Namespace, deployment.Name = workload.Key.Namespace, workload.Key.Name
	patch := client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas))
	if err := s.Kube.Patch(ctx, deployment, patch); err != nil {
		return workload, fmt.Errorf("scaling %s to %d: %w", workload.Key, replicas, err)
	}
	workload.Replicas = replicas
	return workload, nil
}

// Stuck is why pods wait.
type Stuck struct {
	Progress
	// Pod that waits, and what its events say.
	Pod, Event string
}

// WaitStuck waits until some of the workload's pods have a node, no address, and nothing has changed for a while.
func (s *Sandbox) WaitStuck(ctx context.Context, workload Workload, report func(Progress)) (stuck Stuck, err error) {
	var last Progress
	since := time.Now()
	err = until(ctx, "pods of "+workload.Key.Name+" wait for addresses in vain", func(ctx context.Context) error {
		var list corev1.PodList
		if err := s.Kube.List(ctx, &list, client.InNamespace(workload.Key.Namespace), workload.Selector); err != nil {
			return err
		}
		now := countList(list.Items)
		if now != last {
			last, since = now, time.Now()
			report(now)
		}
		if now.Pending+now.Starting+now.Running != workload.Replicas || now.Starting == 0 || now.Pending > 0 || time.Since(since) < stuckFor {
			return fmt.Errorf("%+v of %d pods", now, workload.Replicas)
		}
		waiting := slices.IndexFunc(list.Items, func(pod corev1.Pod) bool { return pod.Spec.NodeName != "" && !running(&pod) })
		stuck = Stuck{Progress: now, Pod: list.Items[waiting].Name}
		events, err := s.events(ctx, "Pod", stuck.Pod)
		if err != nil {
			return err
		}
		refused := slices.IndexFunc(events, func(event string) bool { return strings.Contains(event, noAddress) })
		if refused < 0 {
			return fmt.Errorf("pod %s waits for another reason: %q", stuck.Pod, events)
		}
		_, said, _ := strings.Cut(events[refused], "failed (add): ")
		stuck.Event, _, _ = strings.Cut(said, ";") // the rest is about the plugin's own socket
		return nil
	})
	return stuck, err
}

// CountRunning pods of a workload.
func (s *Sandbox) CountRunning(ctx context.Context, workload Workload) (int, error) {
	pods, err := s.workloadPods(ctx, workload)
	return len(pods), err
}

func countList(pods []corev1.Pod) Progress {
	byUID := map[types.UID]*corev1.Pod{}
	for i := range pods {
		byUID[pods[i].UID] = &pods[i]
	}
	return count(byUID)
}

// Plan asks `dovetail plan`: for the PodNetwork of a file of the examples, or with "" for the cluster's.
func (s *Sandbox) Plan(ctx context.Context, file string) (plan.Report, error) {
	args := []string{"plan", "-o", "json"}
	if file != "" {
		args = append(args, "-f", filepath.Join(s.opts.Examples, file))
	}
	const harm = 2
	var report plan.Report
	out, err := s.Kubectl(ctx, args...)
	var failed *CommandError
	if errors.As(err, &failed) && failed.ExitCode() == harm {
		err = nil
	}
	if err != nil {
		return report, err
	}
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		return report, fmt.Errorf("dovetail plan: %w", err)
	}
	return report, nil
}
