// SPDX-License-Identifier: Apache-2.0

package node_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/dovetail-dev/dovetail/pkg/cni"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// newPods makes sandboxes without a network.
func newPods(t *testing.T, name string, count int) (pods []*pod) {
	for n := range count {
		pods = append(pods, newPod(t, describe("%s%d", name, n)))
	}
	return pods
}

// addAll starts pods, a few at a time.
func addAll(t *testing.T, pods []*pod, add func(*pod) error) {
	t.Helper()
	var group sync.WaitGroup
	turns := make(chan struct{}, 8)
	for _, p := range pods {
		group.Go(func() {
			turns <- struct{}{}
			assert.NoError(t, add(p), p.name)
			<-turns
		})
	}
	group.Wait()
	require.False(t, t.Failed())
}

func (i *instance) addNow(p *pod) error { return i.add(p, 0) }

// addAgain starts a pod as a kubelet does: it tries again when the plugin says that this can help.
func (i *instance) addAgain(p *pod) error {
	for until := time.Now().Add(deadline); ; time.Sleep(tick) {
		err := i.add(p, 0)
		var failure *types.Error
		if err == nil || !errors.As(err, &failure) || failure.Code != types.ErrTryAgainLater || time.Now().After(until) {
			return err
		}
	}
}

func addressesOf(pods []*pod) (all []netip.Addr) {
	for _, p := range pods {
		all = append(all, p.address)
	}
	return all
}

// working starts the agent and waits until EC2, the pool and the kernel agree, with at least so many addresses.
func (i *instance) working(t *testing.T, addresses int, living ...*pod) {
	t.Helper()
	i.startAgent(t, agentBinary())
	eventually(t, func(c *assert.CollectT) {
		i.checkEC2(c)
		require.GreaterOrEqual(c, i.pool(c).Capacity(), addresses)
		i.checkKernel(c, living)
	})
}

func TestPodsStartAndEndWhileTheAgentIsAway(t *testing.T) {
	w := newWorld(t)
	w.warm(t, 4)
	i := w.launch(t, ec2types.InstanceTypeM5Large)
	i.working(t, 64)
	i.killAgent()
	published := i.pool(t).Prefixes()

	pods := newPods(t, "first", 50)
	addAll(t, pods, i.addNow)
	held := map[netip.Addr]bool{}
	for _, a := range addressesOf(pods) {
		require.False(t, held[a], "%s is given twice", a)
		require.True(t, slices.ContainsFunc(published, func(p netip.Prefix) bool { return p.Contains(a) }), "%s was not published", a)
		held[a] = true
	}
	ended := addressesOf(pods[:20])
	for _, p := range pods[:20] {
		require.NoError(t, i.del(p, 0))
	}
	more := newPods(t, "second", 64-30)
	addAll(t, more, i.addAgain) // the addresses of the ended pods rest first
	require.Subset(t, addressesOf(more), ended)

	living := append(pods[20:], more...)
	i.checkKernel(t, living)
	i.working(t, 64+4*16, living...)
	eventually(t, func(c *assert.CollectT) {
		metrics, err := i.get("http://127.0.0.1:61680/metrics")
		require.NoError(c, err)
		require.Contains(c, metrics, describe("dovetail_agent_addresses{state=\"leased\"} %d\n", len(living)))
		ready, err := i.get(health + "/readyz")
		require.NoError(c, err)
		require.Contains(c, ready, "200 OK")
	})
	require.NoError(t, i.del(living[0], 0))
	i.checkFiles(t)
}

// health is where the kubelet asks the agent.
const health = "http://127.0.0.1:61681"

// get asks the agent over HTTP, from the instance.
func (i *instance) get(url string) (body string, err error) {
	err = i.in(func() error {
		address := strings.Split(url, "/")[2]
		conn, err := net.DialTimeout("tcp", address, time.Second) // on this thread, which is in the namespace
		if err != nil {
			return err
		}
		defer conn.Close()
		request, err := http.NewRequest(http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		request.Close = true
		if err := request.Write(conn); err != nil {
			return err
		}
		content, err := io.ReadAll(conn)
		body = string(content)
		return err
	})
	return body, err
}

func TestNoPacketIsLostWhileTheAgentIsKilledAndReplaced(t *testing.T) {
	w := newWorld(t)
	w.warm(t, 1)
	host, i := w.launch(t, ec2types.InstanceTypeM5Large), w.launch(t, ec2types.InstanceTypeM5Large)
	i.working(t, 16)
	pods := newPods(t, "pod", 2)
	addAll(t, pods, i.addNow)

	flows := []*flow{
		newFlow(t, "pod to pod", pods[0].netns, pods[1].netns, pods[1].address),
		newFlow(t, "pod to a host of the VPC", pods[0].netns, host.netns, host.address),
		newFlow(t, "a host of the VPC to a pod", host.netns, pods[1].netns, pods[1].address),
		newFlow(t, "the node to a pod", i.netns, pods[0].netns, pods[0].address),
	}
	next := filepath.Join(t.TempDir(), "agent")
	program, err := os.ReadFile(agentBinary())
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(next, program, 0o700)) //nolint:gosec // a program
	for name, prepare := range map[string]func(){
		"of this release": func() {},
		// Then the data path is compared only once EC2 and the API server have answered.
		"of a release that kept no state of the data path": func() { require.NoError(t, os.Remove(filepath.Join(i.stateDir, "datapath.json"))) },
	} {
		i.killAgent()
		prepare()
		i.startAgent(t, next)
		eventually(t, func(c *assert.CollectT) {
			metrics, err := i.get("http://127.0.0.1:61680/metrics")
			require.NoError(c, err)
			require.Contains(c, metrics, "dovetail_agent_addresses{state=\"leased\"} 2\n", "the agent after one %s", name)
		})
	}
	for _, f := range flows {
		f.end(t)
	}
	i.checkKernel(t, pods)
}

// flow of datagrams, each of which is answered.
type flow struct {
	name    string
	conn    net.Conn
	stop    chan struct{}
	sent    chan int
	mu      sync.Mutex
	waiting map[int]time.Time // sent and not answered
}

// pace of a flow. A burst that waits for a busy machine's processors must fit in a socket's buffer.
const pace = 5 * time.Millisecond

func newFlow(t *testing.T, name, from, to string, address netip.Addr) *flow {
	t.Helper()
	var server net.PacketConn
	require.NoError(t, netns.Do(to, func() (err error) {
		server, err = net.ListenPacket("udp4", net.JoinHostPort(address.String(), "0"))
		return err
	}))
	t.Cleanup(func() { server.Close() })
	go func() {
		buffer := make([]byte, 64)
		for {
			n, from, err := server.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = server.WriteTo(buffer[:n], from)
		}
	}()
	f := &flow{name: name, stop: make(chan struct{}), sent: make(chan int, 1), waiting: map[int]time.Time{}}
	require.NoError(t, netns.Do(from, func() (err error) {
		f.conn, err = net.Dial("udp4", server.LocalAddr().String())
		return err
	}))
	t.Cleanup(func() { f.conn.Close() })
	go f.receive()
	go f.send()
	return f
}

func (f *flow) send() {
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case now := <-ticker.C:
			f.mu.Lock()
			f.waiting[n] = now
			f.mu.Unlock()
			_, _ = f.conn.Write([]byte(strconv.Itoa(n))) // one that is refused is lost
		case <-f.stop:
			f.sent <- n
			return
		}
	}
}

func (f *flow) receive() {
	buffer := make([]byte, 64)
	for {
		count, err := f.conn.Read(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if n, err := strconv.Atoi(string(buffer[:count])); err == nil {
			f.mu.Lock()
			delete(f.waiting, n)
			f.mu.Unlock()
		}
	}
}

// end the flow, and wait for the last answers.
func (f *flow) end(t *testing.T) {
	t.Helper()
	close(f.stop)
	sent := <-f.sent
	require.NotZero(t, sent)
	eventually(t, func(c *assert.CollectT) {
		f.mu.Lock()
		defer f.mu.Unlock()
		require.Empty(c, f.waiting, "%s: lost of %d datagrams, by when they were sent", f.name, sent)
	})
	t.Logf("%s: %d datagrams, all answered", f.name, sent)
}

func TestTheDataPathIsRepairedFromTheAgentsStartWhileTheAPIServerIsAway(t *testing.T) {
	w := newWorld(t)
	w.warm(t, 1)
	i := w.launch(t, ec2types.InstanceTypeM5Large)
	i.working(t, 16)
	pods := newPods(t, "pod", 2)
	addAll(t, pods, i.addNow)
	i.killAgent()
	require.NoError(t, i.in(func() error {
		rules, err := netlink.RuleList(netlink.FAMILY_V4)
		if err != nil {
			return err
		}
		for _, rule := range rules {
			if rule.Priority == 512 || rule.Priority == 1536 {
				if err := netlink.RuleDel(&rule); err != nil {
					return err
				}
			}
		}
		link, err := netlink.LinkByName(cni.HostName(owner(pods[0])))
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link) // takes the route along
	}))
	away, err := w.control.AdminKubeconfig(fmt.Sprintf("https://%s:1", w.endpoint))
	require.NoError(t, err)
	w.config = filepath.Join(t.TempDir(), "away")
	require.NoError(t, os.WriteFile(w.config, away, 0o600))
	i.startAgent(t, agentBinary())
	more := newPods(t, "later", 2)
	addAll(t, more, i.addNow)
	eventually(t, func(c *assert.CollectT) { i.checkKernel(c, append(pods, more...)) })
	// It is alive, and a rolling update waits for it.
	alive, err := i.get(health + "/healthz")
	require.NoError(t, err)
	require.Contains(t, alive, "200 OK")
	ready, err := i.get(health + "/readyz")
	require.NoError(t, err)
	require.Contains(t, ready, "503 Service Unavailable")
}

func TestANodeWhoseENIConfigIsDeletedKeepsWhatItHasAndSaysWhyItCannotGrow(t *testing.T) {
	w := newWorld(t)
	w.warm(t, 1)
	i := w.launch(t, ec2types.InstanceTypeT3Small) // three prefixes an ENI
	i.working(t, 16)
	config := &eniconfig.ENIConfig{ObjectMeta: metav1.ObjectMeta{Name: zone}}
	require.NoError(t, w.kube.Delete(t.Context(), config))
	pods := newPods(t, "pod", 3*16)
	addAll(t, pods, i.addAgain)

	beyond := newPod(t, "beyond")
	eventually(t, func(c *assert.CollectT) {
		err := i.add(beyond, 0)
		var failure *types.Error
		require.True(c, errors.As(err, &failure), "%v", err)
		require.Equal(c, types.ErrTryAgainLater, failure.Code)
		require.Contains(c, failure.Msg, `no ENIConfig is named "us-east-1a" (label topology.kubernetes.io/zone); there is none`)
	})
	eventually(t, func(c *assert.CollectT) {
		list := &corev1.EventList{}
		require.NoError(c, w.kube.List(t.Context(), list))
		require.True(c, slices.ContainsFunc(list.Items, func(e corev1.Event) bool {
			return e.Reason == "ENIConfigMissing" && e.InvolvedObject.Kind == "Node" && e.InvolvedObject.Name == i.name
		}))
	})
	i.checkEC2(t)
	i.checkKernel(t, pods)

	w.createENIConfig(t)
	require.NoError(t, i.addAgain(beyond))
	eventually(t, func(c *assert.CollectT) { i.checkKernel(c, append(pods, beyond)) })
}
