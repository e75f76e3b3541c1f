// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	karpenteraws "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/awslabs/operatorpkg/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
)

// What a failure report holds at most.
const (
	diagnosisTimeout = 10 * time.Second
	diagnosisLines   = 20
	diagnosisEvents  = 30
)

// events lists reason and message of an object's events, in the order they were last seen.
func (s *Sandbox) events(ctx context.Context, kind, name string) ([]string, error) {
	var list corev1.EventList
	if err := s.Kube.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("listing events: %w", err)
	}
	sortEvents(list.Items)
	var reasons []string
	for i := range list.Items {
		if event := &list.Items[i]; event.InvolvedObject.Kind == kind && event.InvolvedObject.Name == name {
			reasons = append(reasons, event.Reason+": "+event.Message)
		}
	}
	return reasons, nil
}

func sortEvents(events []corev1.Event) {
	at := func(e corev1.Event) time.Time {
		return cmp.Or(e.LastTimestamp.Time, e.EventTime.Time, e.CreationTimestamp.Time)
	}
	slices.SortStableFunc(events, func(a, b corev1.Event) int { return at(a).Compare(at(b)) })
}

// Diagnose collects what a person would look at after a failure: conditions of the pod networks, recent warnings, and the
// ends of the logs. It reports what it cannot read as part of the text.
func (s *Sandbox) Diagnose(ctx context.Context) string {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), diagnosisTimeout)
	defer cancel()
	var text strings.Builder
	if s.Kube != nil {
		s.diagnoseNetworks(ctx, &text)
		s.diagnoseKarpenter(ctx, &text)
		s.diagnoseEvents(ctx, &text)
	}
	s.diagnoseLogs(&text)
	return text.String()
}

func (s *Sandbox) diagnoseNetworks(ctx context.Context, text *strings.Builder) {
	var networks v1alpha1.PodNetworkList
	if err := s.Kube.List(ctx, &networks); err != nil {
		fmt.Fprintf(text, "pod networks: %v\n", err)
		return
	}
	for i := range networks.Items {
		for _, condition := range networks.Items[i].Status.Conditions {
			fmt.Fprintf(text, "PodNetwork %s: %s=%s %s %s\n", networks.Items[i].Name, condition.Type, condition.Status, condition.Reason, condition.Message)
		}
	}
}

// diagnoseKarpenter tells of node classes and node claims that are not ready.
func (s *Sandbox) diagnoseKarpenter(ctx context.Context, text *strings.Builder) {
	var nodeClasses karpenteraws.EC2NodeClassList
	var claims karpenter.NodeClaimList
	if err := errors.Join(s.Kube.List(ctx, &nodeClasses), s.Kube.List(ctx, &claims)); err != nil {
		fmt.Fprintf(text, "Karpenter's objects: %v\n", err)
		return
	}
	report := func(kind, name string, conditions []status.Condition) {
		for _, condition := range conditions {
			if condition.Status != metav1.ConditionTrue {
				fmt.Fprintf(text, "%s %s: %s=%s %s %s\n", kind, name, condition.Type, condition.Status, condition.Reason, condition.Message)
			}
		}
	}
	for i := range nodeClasses.Items {
		report("EC2NodeClass", nodeClasses.Items[i].Name, nodeClasses.Items[i].Status.Conditions)
	}
	for i := range claims.Items {
		report("NodeClaim", claims.Items[i].Name, claims.Items[i].Status.Conditions)
	}
}

func (s *Sandbox) diagnoseEvents(ctx context.Context, text *strings.Builder) {
	var list corev1.EventList
	if err := s.Kube.List(ctx, &list, client.MatchingFields{"type": corev1.EventTypeWarning}); err != nil {
		fmt.Fprintf(text, "events: %v\n", err)
		return
	}
	sortEvents(list.Items)
	// One line for what many objects are told.
	var lines []string
	times := map[string]int{}
	for i := range list.Items {
		event := &list.Items[i]
		line := fmt.Sprintf("%s: %s: %s", event.InvolvedObject.Kind, event.Reason, event.Message)
		if times[line]++; times[line] == 1 {
			lines = append(lines, line)
		}
	}
	for _, line := range lines[max(0, len(lines)-diagnosisEvents):] {
		fmt.Fprintf(text, "Warning (%d times) %s\n", times[line], line)
	}
}

// logNames are the ends of the names of logs worth reading: containers' logs are named POD.CONTAINER.log.
var logNames = []string{"sandbox.log", ".controller.log", ".agent.log"}

func (s *Sandbox) diagnoseLogs(text *strings.Builder) {
	err := filepath.WalkDir(s.opts.Dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() || !slices.ContainsFunc(logNames, func(end string) bool { return strings.HasSuffix(path, end) }) {
			return err
		}
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		lines := strings.Split(strings.TrimSpace(string(content)), "\n")
		fmt.Fprintf(text, "==> %s <==\n%s\n", path, strings.Join(lines[max(0, len(lines)-diagnosisLines):], "\n"))
		return nil
	})
	if err != nil {
		fmt.Fprintf(text, "logs: %v\n", err)
	}
}
