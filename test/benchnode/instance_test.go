// SPDX-License-Identifier: Apache-2.0

package benchnode

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// instance on which the built agent runs, in its network namespace.
type instance struct {
	world             *world
	name, netns       string
	stateDir, confDir string
	agent             *exec.Cmd
}

// launch an m5.large, whose launch brings pod ENIs with so many prefixes each; without any it allocates dynamically.
func (w *world) launch(t *testing.T, prefixes ...int32) *instance {
	t.Helper()
	interfaces := []ec2types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), SubnetId: &w.nodeSubnet}}
	for n, count := range prefixes {
		interfaces = append(interfaces, ec2types.InstanceNetworkInterfaceSpecification{
			DeviceIndex: aws.Int32(int32(n + 1)), SubnetId: &w.podSubnet, Ipv4PrefixCount: aws.Int32(count), DeleteOnTermination: aws.Bool(true), //nolint:gosec // two
		})
	}
	out, err := w.ec2.RunInstances(t.Context(), &ec2.RunInstancesInput{
		ImageId: &w.image, InstanceType: ec2types.InstanceTypeM5Large, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), NetworkInterfaces: interfaces,
	})
	require.NoError(t, err)
	i := &instance{
		world: w, name: *out.Instances[0].PrivateDnsName, netns: w.network.InstancePath(*out.Instances[0].InstanceId),
		stateDir: t.TempDir(), confDir: t.TempDir(),
	}
	eventually(t, func(c *assert.CollectT) {
		require.NoError(c, i.in(func() error {
			_, err := netlink.LinkByName("eth0")
			return err
		}))
	})
	allocation := v1alpha1.AllocationDynamic
	if len(prefixes) > 0 {
		allocation = v1alpha1.AllocationStatic
	}
	require.NoError(t, w.kube.Create(t.Context(), &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: i.name, Labels: map[string]string{
			corev1.LabelTopologyZone: zone, v1alpha1.LabelPodNetwork: "default", v1alpha1.LabelAllocation: string(allocation),
		}},
		Status: corev1.NodeStatus{Capacity: corev1.ResourceList{corev1.ResourcePods: resource.MustParse("250")}},
	}))
	i.start(t, allocation)
	return i
}

func (i *instance) in(f func() error) error { return netns.Do(i.netns, f) }

// start the agent and wait until plugins can be served. With static allocation it has no credentials.
func (i *instance) start(t *testing.T, allocation v1alpha1.Allocation) {
	t.Helper()
	log, err := os.Create(filepath.Join(t.TempDir(), "agent.log"))
	require.NoError(t, err)
	i.agent = exec.Command(filepath.Join(controlplanetest.BinDir(), "agent"),
		"--node-name", i.name, "--cluster-name", "bench", "--state-dir", i.stateDir, "--cni-conf-dir", i.confDir)
	i.agent.Env = append(os.Environ(), "KUBECONFIG="+i.world.kubeconfig, "AWS_ENDPOINT_URL="+i.world.awsURL, "AWS_REGION=us-east-1")
	if allocation == v1alpha1.AllocationDynamic {
		i.agent.Env = append(i.agent.Env, "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b")
	}
	i.agent.Stdout, i.agent.Stderr = log, log
	require.NoError(t, i.in(i.agent.Start))
	t.Cleanup(func() {
		_ = i.agent.Process.Kill() // it may have ended
		_ = i.agent.Wait()
		log.Close()
		if content, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("the end of the agent's log:\n%s", content[max(0, len(content)-8000):])
		}
	})
	eventually(t, func(c *assert.CollectT) {
		_, err := os.Stat(filepath.Join(i.confDir, "10-dovetail.conflist"))
		require.NoError(c, err)
	})
}

func (i *instance) pool(t *testing.T) *pool.Document {
	doc, err := pool.Read(i.stateDir)
	require.NoError(t, err)
	return doc
}

// pod is a network namespace and what the plugin gave it.
type pod struct {
	name, netns string
	address     netip.Addr
}

func newPods(t *testing.T, name string, count int) []*pod {
	t.Helper()
	var pods []*pod
	for n := range count {
		p := &pod{name: fmt.Sprint(name, "-", n)}
		p.netns = "/run/netns/" + p.name
		require.NoError(t, netns.Create(p.netns))
		t.Cleanup(func() { require.NoError(t, netns.Delete(p.netns)) })
		pods = append(pods, p)
	}
	return pods
}

// add starts a pod as the kubelet does: again when the plugin says that a retry can help.
func (i *instance) add(p *pod) error {
	for started := time.Now(); ; {
		var out bytes.Buffer
		cmd := plugin("ADD", p.name, p.netns, i.stateDir)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := i.in(cmd.Start); err != nil {
			return err
		}
		err := cmd.Wait()
		if err == nil {
			var result struct {
				IPs []struct {
					Address netip.Prefix `json:"address"`
				} `json:"ips"`
			}
			if err := json.Unmarshal(out.Bytes(), &result); err != nil {
				return err
			}
			p.address = result.IPs[0].Address.Addr()
			return nil
		}
		failure := &types.Error{}
		if json.Unmarshal(out.Bytes(), failure) != nil || failure.Code != types.ErrTryAgainLater || time.Since(started) > deadline {
			return fmt.Errorf("ADD: %w: %s", err, &out)
		}
	}
}

// addAll starts pods, so many at once.
func (i *instance) addAll(t *testing.T, pods []*pod, atOnce int) {
	t.Helper()
	var group sync.WaitGroup
	errs := make([]error, len(pods))
	slots := make(chan struct{}, atOnce)
	for n, p := range pods {
		slots <- struct{}{}
		group.Go(func() {
			errs[n] = i.add(p)
			<-slots
		})
	}
	group.Wait()
	require.NoError(t, errors.Join(errs...))
}
