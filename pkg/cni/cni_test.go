// SPDX-License-Identifier: Apache-2.0

package cni_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/cni"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns/netnstest"
)

func TestMain(m *testing.M) { netnstest.Main(m) }

// node publishes a pool and returns its state directory.
func node(t *testing.T, prefixes ...string) string {
	t.Helper()
	dir := t.TempDir()
	doc := &pool.Document{
		Node: "n", PrimaryAddress: netip.MustParseAddr("10.0.0.10"), MTU: 9001, PodTable: pool.PodTable, CooldownSeconds: 30,
		ENIs: []pool.ENI{{ID: "eni-1", DeviceIndex: 1, RouteTable: pool.ENITable(1)}},
	}
	for _, p := range prefixes {
		doc.ENIs[0].Prefixes = append(doc.ENIs[0].Prefixes, netip.MustParsePrefix(p))
	}
	require.NoError(t, pool.Write(dir, doc))
	lo, err := netlink.LinkByName("lo")
	require.NoError(t, err)
	require.NoError(t, netlink.AddrReplace(lo, &netlink.Addr{IPNet: netlink.NewIPNet(doc.PrimaryAddress.AsSlice())}))
	return dir
}

var created int

// call is what a runtime passes for a new pod sandbox.
func call(t *testing.T, stateDir string) *skel.CmdArgs {
	t.Helper()
	created++
	path := fmt.Sprintf("/run/netns/pod%d", created)
	require.NoError(t, netns.Create(path))
	t.Cleanup(func() { require.NoError(t, netns.Delete(path)) })
	return &skel.CmdArgs{
		ContainerID: fmt.Sprintf("container%d", created), Netns: path, IfName: "eth0",
		Args: "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web", StdinData: configuration(t, stateDir, nil),
	}
}

func configuration(t *testing.T, stateDir string, more map[string]any) []byte {
	t.Helper()
	config := map[string]any{"cniVersion": "1.1.0", "name": "dovetail", "type": cni.Type, "stateDir": stateDir}
	for key, value := range more {
		config[key] = value
	}
	raw, err := json.Marshal(config)
	require.NoError(t, err)
	return raw
}

// add runs ADD and returns what it printed.
func add(t *testing.T, args *skel.CmdArgs) (map[string]any, error) {
	t.Helper()
	reader, writer, err := os.Pipe()
	require.NoError(t, err)
	stdout := os.Stdout
	os.Stdout = writer
	err = cni.Add(args)
	os.Stdout = stdout
	writer.Close()
	if err != nil {
		return nil, err
	}
	var result map[string]any
	require.NoError(t, json.NewDecoder(reader).Decode(&result))
	return result, nil
}

func code(t *testing.T, err error) uint {
	t.Helper()
	var cniError *types.Error
	require.True(t, errors.As(err, &cniError), "%v", err)
	return cniError.Code
}

func podRoutes(t *testing.T) []netlink.Route {
	t.Helper()
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: pool.PodTable}, netlink.RT_FILTER_TABLE)
	require.NoError(t, err)
	return routes
}

func TestAddWiresThePodAndDelTakesItDown(t *testing.T) {
	dir := node(t, "100.64.0.16/28")
	args := call(t, dir)
	result, err := add(t, args)
	require.NoError(t, err)
	require.Equal(t, "100.64.0.16/32", result["ips"].([]any)[0].(map[string]any)["address"])
	interfaces := result["interfaces"].([]any)
	require.Len(t, interfaces, 2)
	host := interfaces[0].(map[string]any)
	require.Regexp(t, `^dvt[0-9a-f]{12}$`, host["name"])

	routes := podRoutes(t)
	require.Len(t, routes, 1)
	require.Equal(t, "100.64.0.16/32", routes[0].Dst.String())
	require.Equal(t, "10.0.0.10", routes[0].Src.String())
	require.NoError(t, netns.Do(args.Netns, func() error {
		link, err := netlink.LinkByName("eth0")
		require.NoError(t, err)
		require.Equal(t, 9001, link.Attrs().MTU)
		require.Equal(t, interfaces[1].(map[string]any)["mac"], link.Attrs().HardwareAddr.String())
		inPod, err := netlink.RouteList(link, netlink.FAMILY_V4)
		require.NoError(t, err)
		require.Len(t, inPod, 2)
		neighbours, err := netlink.NeighList(link.Attrs().Index, netlink.FAMILY_V4)
		require.NoError(t, err)
		require.Len(t, neighbours, 1)
		require.Equal(t, "169.254.1.1", neighbours[0].IP.String())
		require.Equal(t, host["mac"], neighbours[0].HardwareAddr.String())
		require.Equal(t, netlink.NUD_PERMANENT, neighbours[0].State)
		return nil
	}))

	check := *args
	check.StdinData = configuration(t, dir, map[string]any{"prevResult": result})
	require.NoError(t, cni.Check(&check))
	require.NoError(t, cni.Status(args))

	require.NoError(t, cni.Del(args))
	require.Empty(t, podRoutes(t))
	require.Error(t, cni.Check(&check))
	require.NoError(t, cni.Del(args), "a second DEL does no harm")
	gone := *args
	gone.Netns = "/run/netns/never-was"
	require.NoError(t, cni.Del(&gone), "nor one without the namespace")
}

// aws-node's DEL asks its daemon, and takes another way for addresses of prefixes (amazon-vpc-cni-k8s #2487). There is no agent in these
// tests.
func TestDelNeverLeavesALeaseThoughTheAgentIsAway(t *testing.T) {
	for _, from := range []string{"100.64.0.16/28", "100.64.0.40/32"} {
		dir := node(t, from)
		store, err := lease.Open(dir)
		require.NoError(t, err)
		args := call(t, dir)
		_, err = add(t, args)
		require.NoError(t, err)
		held, err := store.List()
		require.NoError(t, err)
		require.Len(t, held, 1, from)
		require.NoError(t, os.Remove(filepath.Join(dir, "pool.json")), "nor is there what it published")
		require.NoError(t, cni.Del(args))
		held, err = store.List()
		require.NoError(t, err)
		require.Empty(t, held, from)
		require.Empty(t, podRoutes(t))
	}
}

// udev gives links a MAC of its own where the kernel drew one (MACAddressPolicy=persistent; amazon-vpc-cni-k8s #2103): the pod's
// neighbour entry is wrong then. A MAC that was set stays.
func TestUdevFindsNoDrawnMACToRewrite(t *testing.T) {
	const set = "3" // NET_ADDR_SET
	args := call(t, node(t, "100.64.0.16/28"))
	result, err := add(t, args)
	require.NoError(t, err)
	name := result["interfaces"].([]any)[0].(map[string]any)["name"].(string)
	require.NoError(t, unix.Mount("sysfs", "/sys", "sysfs", 0, ""), "in the tests' own mount namespace")
	t.Cleanup(func() { require.NoError(t, unix.Unmount("/sys", unix.MNT_DETACH)) })
	kind, err := os.ReadFile(filepath.Join("/sys/class/net", name, "addr_assign_type"))
	require.NoError(t, err)
	require.Equal(t, set, strings.TrimSpace(string(kind)))
	require.NoError(t, cni.Del(args))
}

func TestAddAfterAHalfDoneAddGivesTheSameAddress(t *testing.T) {
	dir := node(t, "100.64.0.16/28")
	args := call(t, dir)
	first, err := add(t, args)
	require.NoError(t, err)
	second, err := add(t, args)
	require.NoError(t, err)
	require.Equal(t, first["ips"], second["ips"])
	require.Len(t, podRoutes(t), 1)
	require.NoError(t, cni.Del(args))
}

func TestAddThatFailsLeavesNothing(t *testing.T) {
	dir := node(t, "100.64.0.16/28")
	args := call(t, dir)
	args.Netns = "/run/netns/never-was"
	_, err := add(t, args)
	require.Error(t, err)
	require.Empty(t, podRoutes(t))
	store, err := lease.Open(dir)
	require.NoError(t, err)
	leases, err := store.List()
	require.NoError(t, err)
	require.Empty(t, leases)
}

func TestAddWithoutAPoolAsksToTryAgain(t *testing.T) {
	args := call(t, t.TempDir())
	_, err := add(t, args)
	require.EqualValues(t, types.ErrTryAgainLater, code(t, err))
	require.ErrorContains(t, err, "has not published addresses yet")
	require.EqualValues(t, cni.CodeNotAvailable, code(t, cni.Status(args)))
}

func TestAddOnAnEmptyPoolGivesTheAgentsReasonEvenWhileItIsAway(t *testing.T) {
	dir := node(t, "100.64.0.5/32")
	first, second := call(t, dir), call(t, dir)
	_, err := add(t, first)
	require.NoError(t, err)
	doc, err := pool.Read(dir)
	require.NoError(t, err)
	doc.Shortage = &pool.Shortage{Reason: "NoFreePrefix", Message: "pod subnet subnet-0ab (us-east-1a) has no free /28; 3 of 4 ENIs attached", Since: time.Now()}
	require.NoError(t, pool.Write(dir, doc))
	_, err = add(t, second)
	require.EqualValues(t, types.ErrTryAgainLater, code(t, err))
	require.ErrorContains(t, err, "pod subnet subnet-0ab (us-east-1a) has no free /28; 3 of 4 ENIs attached")
	require.EqualValues(t, cni.CodeNotAvailable, code(t, cni.Status(second)))
	require.NoError(t, cni.Del(first))
}

func TestGCReleasesAttachmentsThatTheRuntimeForgot(t *testing.T) {
	dir := node(t, "100.64.0.16/28")
	kept, forgotten := call(t, dir), call(t, dir)
	for _, args := range []*skel.CmdArgs{kept, forgotten} {
		_, err := add(t, args)
		require.NoError(t, err)
	}
	gc := &skel.CmdArgs{StdinData: configuration(t, dir, map[string]any{
		"cni.dev/valid-attachments": []any{map[string]any{"containerID": kept.ContainerID, "ifname": "eth0"}},
	})}
	require.NoError(t, cni.GC(gc))
	require.Len(t, podRoutes(t), 1)
	entries, err := os.ReadDir(filepath.Join(dir, "leases"))
	require.NoError(t, err)
	require.Len(t, entries, 1)

	require.NoError(t, os.Remove(filepath.Join(dir, "leases", entries[0].Name())))
	gc.StdinData = configuration(t, dir, map[string]any{"cni.dev/valid-attachments": []any{}})
	require.NoError(t, cni.GC(gc))
	require.Empty(t, podRoutes(t), "a link goes without a lease too")
	require.NoError(t, cni.Del(kept))
}
