// SPDX-License-Identifier: Apache-2.0

package install_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/charts"
	simulated "github.com/dovetail-dev/dovetail/pkg/sandbox"
	"github.com/dovetail-dev/dovetail/test/docs"
)

// podRange is what the README's PodNetwork extends the VPC by.
var podRange = netip.MustParsePrefix("100.64.0.0/16")

// TestTheReadmesStepsInstallDovetail runs the steps of the README as they stand there, on a cluster as EKS hands it over: with aws-node, and
// without a pod subnet, and then what other pages tell to do in a cluster with Dovetail. Step 1 is not among them: the simulated account has the roles, and no CloudFormation.
func TestTheReadmesStepsInstallDovetail(t *testing.T) {
	down()                                      // of the stories before
	require.NoError(t, up(t.Context(), binDir)) // the images of the charts that it installs
	work := t.TempDir()
	step(t, "the cluster and its VPC are as EKS hands them over", func(ctx context.Context, t *testing.T) {
		prepare(ctx, t, work)
		require.NoError(t, removePodSubnets(ctx))
		require.NoError(t, installVPCCNI(ctx))
	})
	started := time.Now()
	var pod *corev1.Pod
	step(t, "the README's commands succeed", func(ctx context.Context, t *testing.T) {
		blocks, err := docs.Blocks("../..", "README.md")
		require.NoError(t, err)
		ran := 0
		for _, block := range blocks {
			if block.Mark != "install" {
				continue
			}
			ran++
			out, err := shell(ctx, work, block.Script())
			require.NoError(t, err, "README.md:%d\n%s\n%s", block.Line, block.Text, out)
			t.Logf("README.md:%d, %.1fs after the first:\n%s", block.Line, time.Since(started).Seconds(), out)
		}
		require.Equal(t, 4, ran, "definitions; aws-node; controller and agent; node class, node pool and pod network")
	})
	step(t, "pods run on a node of the pod network", func(ctx context.Context, t *testing.T) {
		workload, err := sandbox.Deploy(ctx, "first", 3, "", false)
		require.NoError(t, err)
		require.NoError(t, sandbox.WaitRunning(ctx, workload, nil))
		t.Logf("%.1fs after the first command 3 pods run", time.Since(started).Seconds())
		pods, err := client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: workload.Selector.String()})
		require.NoError(t, err)
		require.Len(t, pods.Items, 3)
		for _, pod := range pods.Items {
			require.True(t, podRange.Contains(netip.MustParseAddr(pod.Status.PodIP)), "%s has %s", pod.Name, pod.Status.PodIP)
		}
		pod = &pods.Items[0]
	})
	step(t, "commands of other pages succeed", func(ctx context.Context, t *testing.T) {
		blocks, err := docs.All("../..")
		require.NoError(t, err)
		names := strings.NewReplacer(" POD", " "+pod.Name, " NODE", " "+pod.Spec.NodeName, " NAME", " default")
		ran := 0
		for _, block := range blocks {
			if block.Mark != "run" {
				continue
			}
			ran++
			out, err := shell(ctx, work, names.Replace(block.Script()))
			require.NoError(t, err, "%s:%d\n%s\n%s", block.Page, block.Line, block.Text, out)
		}
		require.Equal(t, 11, ran)
	})
}

// prepare a directory that is a clone of the repository as far as the steps read it, with the programs that they call, and values.yaml, which a
// user writes in step 1 and the sandbox prints.
func prepare(ctx context.Context, t *testing.T, work string) {
	t.Helper()
	require.NoError(t, os.Mkdir(filepath.Join(work, "path"), 0o700))
	for name, target := range map[string]string{
		"charts": absolute("../../charts"), "examples": absolute("../../examples"), "path/kubectl": filepath.Join(binDir, "kubectl"),
		"bin": binDir, "path/helm": filepath.Join(binDir, "tools", "helm"), "path/kubectl-dovetail": filepath.Join(binDir, "dovetail"),
	} {
		require.NoError(t, os.Symlink(target, filepath.Join(work, name)))
	}
	values, err := sandbox.Dovetail(ctx, "values")
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(work, "values.yaml"), []byte(values), 0o600))
}

// shell runs a script as a user of the cluster does.
func shell(ctx context.Context, work, script string) (string, error) {
	cmd := exec.CommandContext(ctx, "/bin/bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = work
	cmd.Env = append(sandbox.Env(), "PATH="+filepath.Join(work, "path")+":"+os.Getenv("PATH"), "HOME="+work, "CLUSTER_NAME="+simulated.ClusterName)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// removePodSubnets takes away what the sandbox's VPC has of the range that the README's PodNetwork extends it by.
func removePodSubnets(ctx context.Context) error {
	subnets, err := sandbox.SubnetsIn(ctx, podRange)
	if err != nil {
		return err
	}
	for _, id := range subnets {
		if _, err := sandbox.EC2.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: &id}); err != nil {
			return fmt.Errorf("deleting subnet %s: %w", id, err)
		}
	}
	vpcs, err := sandbox.EC2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{})
	if err != nil {
		return fmt.Errorf("reading VPCs: %w", err)
	}
	for _, vpc := range vpcs.Vpcs {
		for _, block := range vpc.CidrBlockAssociationSet {
			if cidr, err := netip.ParsePrefix(*block.CidrBlock); err != nil || !podRange.Overlaps(cidr) {
				continue
			}
			if _, err := sandbox.EC2.DisassociateVpcCidrBlock(ctx, &ec2.DisassociateVpcCidrBlockInput{AssociationId: block.AssociationId}); err != nil {
				return fmt.Errorf("taking %s away: %w", *block.CidrBlock, err)
			}
		}
	}
	return nil
}

// installVPCCNI installs what the EKS add-on leaves in a cluster, as far as others see it: the definition of ENIConfig, and aws-node with the
// affinity that Amazon gives it. Its container does nothing here.
func installVPCCNI(ctx context.Context) error {
	objects, err := charts.Render(charts.CRDs, charts.Release{Name: charts.CRDs})
	if err != nil {
		return err
	}
	for _, object := range objects {
		if strings.HasPrefix(object.GetName(), "eniconfigs.") {
			object.SetLabels(nil)
			if err := sandbox.Kube.Create(ctx, object); err != nil {
				return fmt.Errorf("the definition of ENIConfig: %w", err)
			}
		}
	}
	labels := map[string]string{"k8s-app": "aws-node"}
	in := func(key string, operator corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorRequirement {
		return corev1.NodeSelectorRequirement{Key: key, Operator: operator, Values: values}
	}
	daemonSet := &appsv1.DaemonSet{
		ObjectMeta: metav1.ObjectMeta{Namespace: systemNamespace, Name: "aws-node"},
		Spec: appsv1.DaemonSetSpec{
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					HostNetwork: true,
					Tolerations: []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
					Affinity: &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
						RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
							MatchExpressions: []corev1.NodeSelectorRequirement{
								in("kubernetes.io/os", corev1.NodeSelectorOpIn, "linux"),
								in("kubernetes.io/arch", corev1.NodeSelectorOpIn, "amd64", "arm64"),
								in("eks.amazonaws.com/compute-type", corev1.NodeSelectorOpNotIn, "fargate", "hybrid", "auto"),
							},
						}}},
					}},
					Containers: []corev1.Container{{Name: "aws-node", Image: "registry.k8s.io/pause:3.10"}},
				},
			},
		},
	}
	return sandbox.Kube.Create(ctx, daemonSet)
}
