// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	karpenter "sigs.k8s.io/karpenter/pkg/apis/v1"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

// TestUpstreamController is the life of a few nodes under the controller of karpenter-provider-aws, as its own charts install it.
func TestUpstreamController(t *testing.T) {
	s, dir := newUpstreamSandbox(t)
	startNetwork(t, s)
	c := cli{endpoint: variable(s, "AWS_ENDPOINT_URL"), env: environment(t)}
	u := upstream{Sandbox: s, aws: c}
	var workload scenario.Workload

	check(t, "a machine's role signs the calls of the AWS CLI", u.machineRole)
	check(t, "installation", func(t *testing.T) {
		installUpstream(t, s, dir, "controller")
		require.NoError(t, s.Remember(t.Context()))
	})
	profiles := c.words(t, "iam list-instance-profiles --query InstanceProfiles[].InstanceProfileName")
	check(t, "nodes are launched for pods", func(t *testing.T) {
		_, err := s.Apply(t.Context())
		require.NoError(t, err)
		workload, err = s.Workload(t.Context())
		require.NoError(t, err)
		u.running(t, workload)
		claims := u.claims(t, "be initialized", func(claims []karpenter.NodeClaim) bool { return len(claims) > 0 && allInitialized(claims) })
		t.Logf("%d nodes for %d pods", len(claims), workload.Replicas)
		u.compare(t, claims)
	})
	check(t, "nodes that are not needed are consolidated", func(t *testing.T) {
		before := u.claims(t, "exist", func([]karpenter.NodeClaim) bool { return true })
		workload.Replicas = 4
		u.scale(t, workload)
		after := u.claims(t, "hold four pods on two nodes", func(claims []karpenter.NodeClaim) bool { return len(claims) == 2 && allInitialized(claims) })
		require.Less(t, len(after), len(before))
		u.running(t, workload)
		u.compare(t, after)
	})
	check(t, "a node is replaced when its instance is interrupted", func(t *testing.T) {
		victim := u.claims(t, "exist", func([]karpenter.NodeClaim) bool { return true })[0]
		_, err := s.Dovetail(t.Context(), "fault", "add", "interrupt", instanceOf(victim))
		require.NoError(t, err)
		u.claims(t, "be without the interrupted one", func(claims []karpenter.NodeClaim) bool {
			return !slices.ContainsFunc(claims, func(c karpenter.NodeClaim) bool { return c.Name == victim.Name })
		})
		u.running(t, workload)
		require.Contains(t, u.reasons(t, victim.Name), "SpotInterrupted")
		c.text(t, "ec2 wait instance-terminated --instance-ids %s", instanceOf(victim))
	})
	check(t, "all goes when the pods go", func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), deadline)
		defer cancel()
		left, _, err := s.ScaleToZero(ctx, workload, nil)
		require.NoError(t, err)
		require.True(t, left.None(), left.String())
		require.NoError(t, s.Delete(ctx))
		require.Equal(t, "[]", mustJSON(t, c, "ec2 describe-launch-templates --query LaunchTemplates"))
		require.Equal(t, profiles, c.words(t, "iam list-instance-profiles --query InstanceProfiles[].InstanceProfileName"))
		helm(t, s, dir, "uninstall", "karpenter", "--wait")
	})
	check(t, "no call of the account failed", func(t *testing.T) { require.Empty(t, failedCalls(t, dir)) })
}

// upstream asks the cluster and the account about what the controller did.
type upstream struct {
	*scenario.Sandbox
	aws cli
}

func variable(s *scenario.Sandbox, name string) string {
	var value string
	for _, variable := range s.Env() { // the last one counts
		if v, ok := strings.CutPrefix(variable, name+"="); ok {
			value = v
		}
	}
	return value
}

// machineRole runs the AWS CLI on the system node: its credentials come from the instance's metadata.
func (u upstream) machineRole(t *testing.T) {
	instance := u.aws.text(t, "ec2 describe-instances --filters Name=tag:eks:nodegroup-name,Values=system --query Reservations[].Instances[].InstanceId")
	values, err := u.Dovetail(t.Context(), "values")
	require.NoError(t, err)
	_, inside, _ := strings.Cut(values, "value: http")
	inside, _, _ = strings.Cut("http"+inside, "\n")
	out, err := u.OnNode(t.Context(), instance, "env", "-i", "PATH=/usr/bin:/bin", "HOME=/tmp", "LANG=C.UTF-8", "AWS_DEFAULT_REGION=us-east-1",
		awsCLI, "--endpoint-url", inside, "sts", "get-caller-identity", "--output", "text", "--query", "Arn")
	require.NoError(t, err)
	require.Regexp(t, `^arn:aws:sts::123456789012:assumed-role/[\w-]+/`+instance+`\n$`, out)
}

// claims waits until the node claims are as wanted.
func (u upstream) claims(t *testing.T, what string, as func([]karpenter.NodeClaim) bool) []karpenter.NodeClaim {
	t.Helper()
	var list karpenter.NodeClaimList
	require.Eventually(t, func() bool { return u.Kube.List(t.Context(), &list) == nil && as(list.Items) }, deadline, 250*time.Millisecond, "node claims should "+what)
	return list.Items
}

func (u upstream) running(t *testing.T, workload scenario.Workload) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	require.NoError(t, u.WaitRunning(ctx, workload, nil))
}

func (u upstream) scale(t *testing.T, workload scenario.Workload) {
	t.Helper()
	deployment := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: workload.Key.Namespace, Name: workload.Key.Name}}
	require.NoError(t, u.Kube.Patch(t.Context(), deployment, client.RawPatch("application/merge-patch+json", fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, workload.Replicas))))
}

// compare requires the account to hold the instances of the claims, as the controller says they are, and the nodes of both.
func (u upstream) compare(t *testing.T, claims []karpenter.NodeClaim) {
	t.Helper()
	instances := map[string]string{}
	for _, line := range strings.Split(u.aws.text(t, `ec2 describe-instances --filters Name=tag-key,Values=karpenter.sh/nodepool Name=instance-state-name,Values=pending,running
		--query 'Reservations[].Instances[].[InstanceId,InstanceType,Placement.AvailabilityZone,InstanceLifecycle,PrivateDnsName]'`), "\n") {
		id, rest, _ := strings.Cut(line, "\t")
		instances[id] = rest
	}
	require.Len(t, instances, len(claims))
	for _, claim := range claims {
		require.Equal(t, strings.Join([]string{
			claim.Labels[corev1.LabelInstanceTypeStable], claim.Labels[corev1.LabelTopologyZone], claim.Labels[karpenter.CapacityTypeLabelKey], claim.Status.NodeName,
		}, "\t"), instances[instanceOf(claim)])
	}
}

// failedCalls are lines of the controller's log with an error of the AWS SDK.
func failedCalls(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "logs", "*", "karpenter-*.controller.log"))
	require.NoError(t, err)
	require.NotEmpty(t, files)
	var lines []string
	for _, file := range files {
		content, err := os.ReadFile(file)
		require.NoError(t, err)
		for line := range strings.Lines(string(content)) {
			if strings.Contains(line, "operation error") {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// reasons of the events about a claim.
func (u upstream) reasons(t *testing.T, claim string) []string {
	t.Helper()
	var events corev1.EventList
	require.NoError(t, u.Kube.List(t.Context(), &events))
	var reasons []string
	for i := range events.Items {
		if about := events.Items[i].InvolvedObject; about.Kind == "NodeClaim" && about.Name == claim {
			reasons = append(reasons, events.Items[i].Reason)
		}
	}
	return reasons
}

func allInitialized(claims []karpenter.NodeClaim) bool {
	return !slices.ContainsFunc(claims, func(c karpenter.NodeClaim) bool {
		return !c.StatusConditions().IsTrue(karpenter.ConditionTypeInitialized)
	})
}

func instanceOf(claim karpenter.NodeClaim) string { return path.Base(claim.Status.ProviderID) }
