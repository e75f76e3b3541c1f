// SPDX-License-Identifier: Apache-2.0

package benchnode

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// figure is the distribution of one kind of operation.
type figure struct {
	Name  string        `json:"name"`
	Count int           `json:"count"`
	P50   time.Duration `json:"p50Nanoseconds"`
	P99   time.Duration `json:"p99Nanoseconds"`
	// Ratio of P50 to that of the operation it is compared with.
	Ratio float64 `json:"ratio,omitempty"`
	To    string  `json:"to,omitempty"`
}

func figureOf(name string, took []time.Duration) figure {
	slices.Sort(took)
	return figure{Name: name, Count: len(took), P50: took[len(took)/2], P99: took[len(took)*99/100]}
}

// after the start of a process, which a runtime pays for each call of a plugin.
func (f figure) after(start figure) figure {
	f.Name += " (netlink operations in process, and a process start)"
	f.P50, f.P99 = f.P50+start.P50, f.P99+start.P99
	return f
}

func (f figure) against(other figure) figure {
	f.Ratio, f.To = float64(f.P50)/float64(other.P50), other.Name
	return f
}

// startAndEndPods measures ADD and DEL by the built plugin, on a pool that is never empty.
func startAndEndPods(t *testing.T, r *results) {
	state := publish(t)
	pods := make([]string, max(*concurrent, 1))
	for i := range pods {
		pods[i] = fmt.Sprintf("/run/netns/pod%d", i)
		require.NoError(t, netns.Create(pods[i]))
	}
	var wire, unwire []time.Duration
	for i := range *rounds {
		f := newFloor(pods[i%len(pods)], i%len(pods))
		wire = append(wire, timed(t, f.wire))
		unwire = append(unwire, timed(t, f.unwire))
	}
	floorAdd, floorDel := figureOf("floor of ADD", wire), figureOf("floor of DEL", unwire)

	var start, add, del []time.Duration
	for i := range *rounds {
		start = append(start, timed(t, func() error { return run("VERSION", "c", "", state) }))
		id := fmt.Sprint("sequential-", i)
		add = append(add, timed(t, func() error { return run("ADD", id, pods[i%len(pods)], state) }))
		del = append(del, timed(t, func() error { return run("DEL", id, pods[i%len(pods)], state) }))
	}
	started := figureOf("process start (VERSION)", start)
	sequentialAdd, sequentialDel := figureOf("ADD, one after the other", add), figureOf("DEL, one after the other", del)

	together := func(command string) figure {
		var took []time.Duration
		for range max(*rounds / *concurrent, 1) {
			if command == "DEL" {
				all(t, pods, "ADD", state)
			}
			took = append(took, all(t, pods, command, state)...)
			if command == "ADD" {
				all(t, pods, "DEL", state)
			}
		}
		return figureOf(fmt.Sprintf("%s, %d at once", command, *concurrent), took)
	}
	// What a machine does with so many processes at once is not the plugin's; without this the last ratios cannot be judged.
	startedTogether := together("VERSION")
	startedTogether.Name = fmt.Sprintf("process start, %d at once", *concurrent)
	floorAdd, floorDel = floorAdd.after(started), floorDel.after(started)
	r.Plugin = append(r.Plugin, started, floorAdd, floorDel, sequentialAdd.against(floorAdd), sequentialDel.against(floorDel),
		startedTogether.against(started), together("ADD").against(sequentialAdd), together("DEL").against(sequentialDel))
}

func timed(t *testing.T, f func() error) time.Duration {
	started := time.Now()
	err := f()
	took := time.Since(started)
	require.NoError(t, err)
	return took
}

// all runs a command for every pod at once.
func all(t *testing.T, pods []string, command, state string) []time.Duration {
	took := make([]time.Duration, len(pods))
	errs := make([]error, len(pods))
	var done sync.WaitGroup
	for i, pod := range pods {
		done.Go(func() {
			started := time.Now()
			errs[i] = run(command, fmt.Sprint("concurrent-", i), pod, state)
			took[i] = time.Since(started)
		})
	}
	done.Wait()
	for _, err := range errs {
		require.NoError(t, err)
	}
	return took
}

// publish makes a pool that is never empty, whose addresses do not rest.
func publish(t *testing.T) string {
	dir := t.TempDir()
	doc := &pool.Document{
		Node: "bench", PrimaryAddress: netip.MustParseAddr("10.0.0.10"), MTU: 9001, PodTable: pool.PodTable,
		ENIs: []pool.ENI{{ID: "eni-1", DeviceIndex: 1, RouteTable: pool.ENITable(1)}},
	}
	for i := range 7 { // 112 addresses, as for 110 pods
		doc.ENIs[0].Prefixes = append(doc.ENIs[0].Prefixes, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, 0, byte(16 * (i + 1))}), 28))
	}
	require.NoError(t, pool.Write(dir, doc))
	lo, err := netlink.LinkByName("lo")
	require.NoError(t, err)
	require.NoError(t, netlink.AddrReplace(lo, &netlink.Addr{IPNet: netlink.NewIPNet(doc.PrimaryAddress.AsSlice())}))
	return dir
}

// plugin is a call of the built plugin as a runtime makes it.
func plugin(command, pod, netnsPath, state string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(controlplanetest.BinDir(), "cni"))
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_CONTAINERID="+pod, "CNI_NETNS="+netnsPath, "CNI_IFNAME=eth0",
		"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME="+pod, "CNI_PATH=/opt/cni/bin")
	cmd.Stdin = strings.NewReader(`{"cniVersion":"1.1.0","name":"dovetail","type":"dovetail","stateDir":"` + state + `"}`)
	return cmd
}

func run(command, container, netnsPath, state string) error {
	if output, err := plugin(command, container, netnsPath, state).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, output)
	}
	return nil
}
