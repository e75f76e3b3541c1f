// SPDX-License-Identifier: Apache-2.0

package datapath_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	vishnetns "github.com/vishvananda/netns"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"

	"github.com/dovetail-dev/dovetail/pkg/agent/datapath"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/process"
)

const (
	nodeName = "node-a"
	pod2NS   = "/run/netns/pod2"
	// What the router holds on behalf of others.
	otherNode, remotePod = "10.0.0.11", "100.64.1.20"
	// The node's pods: one on each of two ENIs.
	nodeAddress, pod1, pod2 = "10.0.0.10", "100.64.0.20", "100.64.32.20"
)

// A client of Services, by its namespace and address.
type client struct{ name, namespace, source string }

var (
	fromNode    = client{"node", "", ""}
	fromPod1    = client{"pod on the first ENI", podNS, ""}
	fromPod2    = client{"pod on the second ENI", pod2NS, ""}
	fromOther   = client{"other node", routerNS, otherNode}
	fromOutside = client{"outside of the VPC", routerNS, outside}
)

// service with one endpoint each.
type service struct {
	name, endpoint, endpointNS, endpointNode string
	policy                                   corev1.ServiceExternalTrafficPolicy

	clusterIP string
	nodePort  int32
}

func services() map[string]*service {
	list := map[string]*service{}
	for _, s := range []service{
		{"local", pod1, podNS, nodeName, corev1.ServiceExternalTrafficPolicyCluster, "", 0},
		{"remote", remotePod, routerNS, "node-b", corev1.ServiceExternalTrafficPolicyCluster, "", 0},
		{"outside", outside, routerNS, "node-b", corev1.ServiceExternalTrafficPolicyCluster, "", 0},
		{"only-here", pod2, pod2NS, nodeName, corev1.ServiceExternalTrafficPolicyLocal, "", 0},
		{"only-there", remotePod, routerNS, "node-b", corev1.ServiceExternalTrafficPolicyLocal, "", 0},
	} {
		list[s.name] = &s
	}
	return list
}

const (
	anyNode = "an address of the node"
	nobody  = ""
)

// flows through Services, and as whom the endpoint sees the client. EC2 delivers answers to another node only where they went
// out: to the primary address from the primary ENI.
var flows = []struct {
	client   client
	service  string
	nodePort bool
	want     string
}{
	{fromPod2, "local", false, pod2},
	{fromPod1, "local", false, anyNode}, // hairpin
	{fromNode, "local", false, nodeAddress},
	{fromOther, "local", true, anyNode},
	{fromOutside, "local", true, anyNode},
	{fromNode, "local", true, anyNode},
	{fromPod2, "local", true, anyNode},
	{fromPod1, "local", true, anyNode}, // hairpin
	{fromPod1, "remote", false, pod1},
	{fromPod2, "remote", false, pod2},
	{fromNode, "remote", false, nodeAddress},
	{fromOther, "remote", true, nodeAddress},
	{fromOutside, "remote", true, nodeAddress},
	{fromNode, "remote", true, nodeAddress},
	{fromPod1, "remote", true, anyNode},
	{fromPod2, "remote", true, anyNode},
	{fromPod1, "outside", false, nodeAddress}, // ours translates, after kube-proxy's translation
	{fromPod2, "outside", false, nodeAddress},
	{fromPod1, "outside", true, nodeAddress}, // both would
	{fromOther, "only-here", true, otherNode},
	{fromOutside, "only-here", true, outside},
	{fromNode, "only-here", true, anyNode},
	{fromPod1, "only-here", true, pod1},
	{fromPod1, "only-here", false, pod1},
	{fromPod2, "only-here", false, anyNode}, // hairpin
	{fromOther, "only-there", true, nobody},
	{fromOutside, "only-there", true, nobody},
	{fromPod1, "only-there", false, pod1},
}

// TestServicesWorkBesideKubeProxy runs the real kube-proxy where it has been built, as make e2e does.
func TestServicesWorkBesideKubeProxy(t *testing.T) {
	program := filepath.Join(controlplanetest.BinDir(), "kube-proxy")
	if _, err := os.Stat(program); err != nil {
		t.Skip("make node-programs builds kube-proxy")
	}
	require.NoError(t, controlplane.CheckBuilt(controlplanetest.BinDir()))
	dir := t.TempDir()
	cp, err := controlplane.Start(t.Context(), controlplane.Options{Dir: dir, BinDir: controlplanetest.BinDir()})
	require.NoError(t, err)
	t.Cleanup(cp.Stop)
	kubeconfig, err := cp.ProxyKubeconfig(cp.RESTConfig().Host)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "proxy.kubeconfig"), kubeconfig, 0o600))
	kube, err := kubernetes.NewForConfig(cp.RESTConfig())
	require.NoError(t, err)
	createNode(t, kube)
	all := services()
	for _, s := range all {
		create(t, kube, s)
	}

	for _, mode := range []struct{ name, proxyMode, iptables string }{
		{"nftables", "nftables", "nft"},
		{"iptables on nftables", "iptables", "nft"},
		{"iptables legacy", "iptables", "legacy"},
	} {
		t.Run(mode.name, func(t *testing.T) {
			state := twoENIs(t)
			_, err := datapath.Apply(state)
			require.NoError(t, err)
			startProxy(t, program, mode.proxyMode, mode.iptables, filepath.Join(dir, "proxy.kubeconfig"))
			local := all["local"]
			require.EventuallyWithT(t, func(c *assert.CollectT) { // kube-proxy writes all Services' rules at once
				_, err := seenAt(c, podNS, pod1+":80", pod2NS, "", local.clusterIP+":80")
				require.NoError(c, err)
			}, deadline, 100*time.Millisecond)

			check(t, all)
			t.Run("what kube-proxy writes is none of our business", func(t *testing.T) {
				changes, err := datapath.Apply(state)
				require.NoError(t, err)
				require.Empty(t, changes)
			})
			t.Run("the table is replaced under kube-proxy", func(t *testing.T) {
				nft(t, func(c *nftables.Conn) { c.DelTable(dovetail) })
				_, err := datapath.Apply(state)
				require.NoError(t, err)
				check(t, all)
			})
			t.Run("policy None", func(t *testing.T) {
				state.SNAT = false
				_, err := datapath.Apply(state)
				require.NoError(t, err)
				s := all["outside"]
				seen, err := seenAt(t, s.endpointNS, s.endpoint+":80", podNS, "", s.clusterIP+":80")
				require.NoError(t, err)
				require.Equal(t, pod1, seen)
				seen, err = seenAt(t, all["only-here"].endpointNS, pod2+":80", routerNS, outside, net.JoinHostPort(nodeAddress, fmt.Sprint(all["only-here"].nodePort)))
				require.NoError(t, err)
				require.Equal(t, outside, seen)
			})
		})
	}
}

func check(t *testing.T, all map[string]*service) {
	t.Helper()
	for _, f := range flows {
		s := all[f.service]
		dialled, what := s.clusterIP+":80", "ClusterIP"
		if f.nodePort {
			dialled, what = fmt.Sprintf("%s:%d", nodeAddress, s.nodePort), "NodePort"
		}
		t.Run(fmt.Sprintf("%s to %s of %s", f.client.name, what, s.name), func(t *testing.T) {
			seen, err := seenAt(t, s.endpointNS, s.endpoint+":80", f.client.namespace, f.client.source, dialled)
			switch f.want {
			case nobody:
				require.Error(t, err)
			case anyNode:
				require.NoError(t, err)
				require.Contains(t, []string{nodeAddress, "100.64.0.5", "100.64.32.5"}, seen)
			default:
				require.NoError(t, err)
				require.Equal(t, f.want, seen)
			}
		})
	}
}

// twoENIs is a node with a second ENI for pods, and a pod on it. All links check strictly where packets come from, unless the
// data path says otherwise.
func twoENIs(t *testing.T) datapath.State {
	t.Helper()
	require.NoError(t, netns.Sysctl("ipv4/conf/default/rp_filter", "1"))
	state := node(t)
	require.NoError(t, netns.Create(pod2NS))
	t.Cleanup(func() {
		for _, name := range []string{"eth2", "dvtpod2"} {
			assert.NoError(t, netlink.LinkDel(linkNamed(t, name)))
		}
		assert.NoError(t, netns.Delete(pod2NS))
	})
	router, err := vishnetns.GetFromPath(routerNS)
	require.NoError(t, err)
	defer router.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.HardwareAddr = "eth2", mac("02:00:00:00:00:03")
	require.NoError(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "reth2", PeerNamespace: netlink.NsFd(int(router))}))
	require.NoError(t, netns.Do(routerNS, func() error {
		link := linkNamed(t, "reth2")
		require.NoError(t, netlink.AddrAdd(link, &netlink.Addr{IPNet: cidr("100.64.32.1/19")}))
		require.NoError(t, netns.Sysctl("ipv4/conf/reth2/rp_filter", "1"))
		require.NoError(t, netlink.LinkSetUp(link))
		require.NoError(t, netlink.RouteAdd(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.IPv4(100, 64, 32, 5), Dst: cidr("100.64.32.16/28")}))
		for _, address := range []string{otherNode, remotePod} {
			require.NoError(t, netlink.AddrAdd(linkNamed(t, "lo"), &netlink.Addr{IPNet: cidr(address + "/32")}))
		}
		return nil
	}))
	wirePod(t, pod2NS, "dvtpod2", pod2)
	state.ENIs = append(state.ENIs, datapath.ENI{
		MAC: attrs.HardwareAddr, Table: pool.ENITable(2), Address: netip.MustParseAddr("100.64.32.5"),
		Subnet: netip.MustParsePrefix("100.64.32.0/19"), Prefixes: []netip.Prefix{netip.MustParsePrefix("100.64.32.16/28")},
	})
	state.Pods = append(state.Pods, datapath.Pod{Address: netip.MustParseAddr(pod2), Link: "dvtpod2"})
	return state
}

func createNode(t *testing.T, kube kubernetes.Interface) {
	t.Helper()
	created, err := kube.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: nodeName}}, metav1.CreateOptions{})
	require.NoError(t, err)
	created.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: nodeAddress}}
	_, err = kube.CoreV1().Nodes().UpdateStatus(t.Context(), created, metav1.UpdateOptions{})
	require.NoError(t, err)
}

// create the Service and what the controllers would make of it.
func create(t *testing.T, kube kubernetes.Interface, s *service) {
	t.Helper()
	created, err := kube.CoreV1().Services(metav1.NamespaceDefault).Create(t.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: s.name},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeNodePort, ExternalTrafficPolicy: s.policy, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
	s.clusterIP, s.nodePort = created.Spec.ClusterIP, created.Spec.Ports[0].NodePort
	_, err = kube.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).Create(t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: s.name, Labels: map[string]string{discoveryv1.LabelServiceName: s.name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{s.endpoint}, NodeName: ptr.To(s.endpointNode)}},
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To(""), Port: ptr.To[int32](80), Protocol: ptr.To(corev1.ProtocolTCP)}},
	}, metav1.CreateOptions{})
	require.NoError(t, err)
}

// startProxy starts kube-proxy as EKS configures it, and takes its rules away at the end.
func startProxy(t *testing.T, program, mode, iptables, kubeconfig string) {
	t.Helper()
	logs := t.TempDir()
	packages := filepath.Join(controlplanetest.BinDir(), "packages/usr")
	tools := t.TempDir() // the kind of iptables that is asked for, before others
	for _, name := range []string{"iptables", "iptables-save", "iptables-restore", "ip6tables", "ip6tables-save", "ip6tables-restore"} {
		multi := tool(t, packages, "xtables-"+iptables+"-multi")
		require.NoError(t, os.Symlink(multi, filepath.Join(tools, name)))
	}
	env := []string{
		"PATH=" + tools + ":" + filepath.Join(packages, "sbin") + ":/usr/sbin:/usr/bin:/sbin:/bin",
		"LD_LIBRARY_PATH=" + filepath.Join(packages, "lib/x86_64-linux-gnu"),
	}
	run := func(name string, args ...string) *process.Process {
		p, err := process.Start(process.Params{Name: name, Path: program, Env: env, LogDir: logs, Args: append([]string{"--proxy-mode=" + mode, "--v=1"}, args...)})
		require.NoError(t, err)
		return p
	}
	proxy := run("kube-proxy", "--kubeconfig="+kubeconfig, "--hostname-override="+nodeName, "--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-established=0", "--conntrack-tcp-timeout-close-wait=0")
	t.Cleanup(func() {
		proxy.Stop(5 * time.Second)
		if log, err := os.ReadFile(filepath.Join(logs, "kube-proxy.log")); err == nil && t.Failed() {
			t.Logf("%s", log)
		}
		cleanup := run("cleanup", "--cleanup")
		ctx, cancel := context.WithTimeout(context.Background(), deadline)
		defer cancel()
		select {
		case <-cleanup.Done():
		case <-ctx.Done():
			cleanup.Kill()
			t.Error("kube-proxy --cleanup does not end")
		}
	})
}

func tool(t *testing.T, packages, name string) string {
	t.Helper()
	candidates := []string{filepath.Join(packages, "sbin", name), "/usr/sbin/" + name}
	i := slices.IndexFunc(candidates, func(path string) bool { _, err := os.Stat(path); return err == nil })
	require.GreaterOrEqual(t, i, 0, "%s is in none of %v: make node-programs fetches it", name, candidates)
	return candidates[i]
}
