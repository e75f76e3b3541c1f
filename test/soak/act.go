// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/sandbox"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// errNothing to strike: the action is left out, and said so in the log.
var errNothing = errors.New("there is none")

// act does what a round has to do, each at its time, and returns when the last of it is over.
func (s *soak) act(ctx context.Context, n int) {
	started, actions := time.Now(), Round(s.seed, n)
	defer func() {
		select {
		case <-ctx.Done():
		case <-time.After(time.Until(started.Add(lasts(actions)))):
		}
	}()
	for _, action := range actions {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(started.Add(action.At))):
		}
		on, err := s.do(ctx, action)
		switch {
		case err != nil:
			s.log("round %d: %s: left out: %v", n, action, err)
		case on != "":
			s.log("round %d: %s → %s", n, action, on)
		default:
			s.log("round %d: %s", n, action)
		}
		s.figures.did(action.Kind, err)
	}
}

// do an action, and say what it struck.
func (s *soak) do(ctx context.Context, a Action) (on string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 2*patience)
	defer cancel()
	switch a.Kind {
	case Scale:
		return "", s.scale(ctx, a.On, a.Count)
	case Recreate:
		return "", s.recreate(ctx, a.On)
	case DeletePods:
		return s.deletePods(ctx, a)
	case DeleteNode:
		instance, err := s.pick(ctx, a.Pick, everyInstance)
		if err != nil {
			return "", err
		}
		return instance.PrivateDNS, client.IgnoreNotFound(s.user.Kube.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: instance.PrivateDNS}}))
	case Drift:
		return s.drift(ctx, a)
	case KillAgent:
		instance, err := s.pick(ctx, a.Pick, everyInstance)
		if err != nil {
			return "", err
		}
		_, err = s.on(ctx, sandbox.Target{Instance: instance.ID}, s.netprobe, "kill", "agent")
		return instance.ID, err
	case KillController:
		_, err := s.on(ctx, sandbox.Target{Instance: s.system}, s.netprobe, "kill", "controller")
		return "", err
	default:
		fault, on, err := s.fault(ctx, a)
		if err == nil {
			_, err = s.box.Faults().Add(ctx, fault)
		}
		return on, err
	}
}

// fault that an action is, with what it strikes.
func (s *soak) fault(ctx context.Context, a Action) (fault aws.Fault, on string, err error) {
	fault = aws.Fault{Seed: uint64(a.Pick) + 1, For: aws.Duration(a.For)}
	var instance aws.Instance
	switch a.Kind {
	case Throttle:
		fault.Throttle = &aws.ThrottleFault{Action: a.On, Capacity: 1, Refill: 0.2}
	case LostReply:
		fault.LostReply, fault.Times = &aws.LostReplyFault{Action: a.On}, a.Count
	case CallError:
		fault.Error = &aws.ErrorFault{Action: a.On, Code: "InternalError", Rate: 0.5, AfterEffect: a.After}
	case Latency:
		fault.Latency = &aws.LatencyFault{Action: a.On, Add: aws.Span{Min: 500 * time.Millisecond, Max: 6 * time.Second}}
	case NoCapacity:
		fault.Capacity = &aws.CapacityFault{Zone: a.On}
	case FillSubnet, FragmentSubnet:
		mode := aws.FillSubnet
		if a.Kind == FragmentSubnet {
			mode = aws.FragmentSubnet
		}
		on = s.subnets.ByZone[a.On]
		account, err := s.box.Account(ctx)
		if err != nil {
			return fault, on, err
		}
		fault.Subnet = &aws.SubnetFault{ID: on, Mode: mode, Leave: min(a.Count, leavable(account, on, mode))}
	case KillInstance:
		instance, err = s.pick(ctx, a.Pick, everyInstance)
		fault.Kill, fault.For = &aws.KillFault{Instance: instance.ID}, 0
	case HangInstance:
		instance, err = s.pick(ctx, a.Pick, everyInstance)
		fault.Kill = &aws.KillFault{Instance: instance.ID, Hang: true}
	case Interrupt:
		instance, err = s.pick(ctx, a.Pick, func(i aws.Instance) bool { return i.Tags[karpenter.NodePoolLabelKey] == karpenter.CapacityTypeSpot })
		fault.Interrupt = &aws.InterruptFault{Instance: instance.ID}
	case PauseServer, StopServer:
		fault.Outage = &aws.OutageFault{Component: a.On, Kill: a.Kind == StopServer}
	case MetadataLag:
		fault.MetadataLag = &aws.MetadataLagFault{Add: aws.Span{Min: time.Second, Max: 10 * time.Second}}
	case MetadataError:
		fault.MetadataError = &aws.MetadataErrorFault{Status: 503, Rate: 0.5}
	}
	if instance.ID != "" {
		on = instance.ID
	}
	return fault, on, err
}

// leavable is how many addresses a fault can leave: no more than are free, and with mode fragment no whole /28.
func leavable(account aws.Snapshot, id, mode string) int {
	for _, subnet := range account.Subnets {
		if subnet.ID != id {
			continue
		}
		free := freeBlocks(account, subnet, func(aws.Interface) bool { return true })
		if mode == aws.FragmentSubnet {
			return free * (blockSize - 1)
		}
		return free * blockSize
	}
	return 0
}

func everyInstance(aws.Instance) bool { return true }

// pick one of Karpenter's running instances, which stand in the order of their launches.
func (s *soak) pick(ctx context.Context, number uint32, which func(aws.Instance) bool) (aws.Instance, error) {
	account, err := s.box.Account(ctx)
	if err != nil {
		return aws.Instance{}, err
	}
	var found []aws.Instance
	for _, i := range account.Instances {
		if _, ours := i.Tags[karpenter.NodePoolLabelKey]; ours && i.State == "running" && !i.Hangs && which(i) {
			found = append(found, i)
		}
	}
	if len(found) == 0 {
		return aws.Instance{}, errNothing
	}
	slices.SortFunc(found, func(a, b aws.Instance) int { return cmp.Compare(a.LaunchOrder, b.LaunchOrder) })
	return found[int(number)%len(found)], nil
}

// scale a Deployment. One that an outage in recreate has left deleted is made.
func (s *soak) scale(ctx context.Context, name string, replicas int) error {
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	err := s.user.Kube.Patch(ctx, deployment, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)))
	if apierrors.IsNotFound(err) {
		return s.user.Kube.Create(ctx, slotOf(name).deployment(replicas))
	}
	return err
}

// recreate a Deployment when its pods have gone. It goes in the foreground: with the other way Kubernetes' garbage collector, which
// compares names where its watch broke, takes the new one for the old, and never deletes the old one's pods.
func (s *soak) recreate(ctx context.Context, name string) error {
	key, old := client.ObjectKey{Namespace: namespace, Name: name}, &appsv1.Deployment{}
	if err := s.user.Kube.Get(ctx, key, old); err != nil {
		return err
	}
	if err := s.user.Kube.Delete(ctx, old, client.PropagationPolicy(metav1.DeletePropagationForeground)); err != nil {
		return err
	}
	for {
		switch err := s.user.Kube.Get(ctx, key, &appsv1.Deployment{}); {
		case apierrors.IsNotFound(err):
			return s.user.Kube.Create(ctx, slotOf(name).deployment(int(*old.Spec.Replicas)))
		case err != nil:
			return err
		}
		select {
		case <-ctx.Done():
			return errors.New("its pods are still ending; the next round makes it")
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// deletePods that have a node, one beside the other in the order of names.
func (s *soak) deletePods(ctx context.Context, a Action) (string, error) {
	pods := &corev1.PodList{}
	if err := s.user.Kube.List(ctx, pods, client.InNamespace(namespace), client.HasLabels{soakLabel}); err != nil {
		return "", err
	}
	pods.Items = slices.DeleteFunc(pods.Items, func(p corev1.Pod) bool { return p.Spec.NodeName == "" || p.DeletionTimestamp != nil })
	if len(pods.Items) == 0 {
		return "", errNothing
	}
	slices.SortFunc(pods.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	var names []string
	for i := range min(a.Count, len(pods.Items)) {
		pod := &pods.Items[(int(a.Pick)+i)%len(pods.Items)]
		if err := client.IgnoreNotFound(s.user.Kube.Delete(ctx, pod)); err != nil {
			return strings.Join(names, " "), err
		}
		names = append(names, pod.Name)
	}
	return strings.Join(names, " "), nil
}

// drift changes what the nodes of a Deployment's NodePool are made from.
func (s *soak) drift(ctx context.Context, a Action) (string, error) {
	pool := &karpenter.NodePool{ObjectMeta: metav1.ObjectMeta{Name: slotOf(a.On).capacity}}
	patch := fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{%q:"%d"}}}}}`, soakLabel, a.Pick)
	return "NodePool " + pool.Name, s.user.Kube.Patch(ctx, pool, client.RawPatch("application/merge-patch+json", patch))
}
