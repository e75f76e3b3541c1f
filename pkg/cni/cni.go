// SPDX-License-Identifier: Apache-2.0

// Package cni is the CNI plugin: it leases an address of the pool that the node agent published, and wires the pod. It asks
// the agent only when the pool is empty, so pods start while the agent is away.
package cni

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"runtime"
	"time"

	"github.com/containernetworking/cni/pkg/skel"
	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
)

const (
	// Type is the plugin's name in a configuration and of its file.
	Type = "dovetail"
	// DefaultStateDir is shared with the agent.
	DefaultStateDir = "/run/dovetail"
	// CodeNotAvailable is the specification's error code of STATUS for a plugin that can serve no ADD.
	CodeNotAvailable uint = 50
)

// config of the plugin.
type config struct {
	types.PluginConf
	StateDir string `json:"stateDir"`
}

// args that the kubelet passes.
type args struct {
	types.CommonArgs
	K8S_POD_NAMESPACE types.UnmarshallableString //nolint:revive,staticcheck // the names are the protocol
	K8S_POD_NAME      types.UnmarshallableString //nolint:revive,staticcheck // the names are the protocol
}

// Main serves one call of the plugin, as the environment says.
func Main(about string) {
	// A call does one thing after the other. With more threads than that the runtime looks for work that there is none of, and
	// the calls of a burst take the CPUs from each other.
	runtime.GOMAXPROCS(1)
	skel.PluginMainFuncs(skel.CNIFuncs{
		Add: reported(VerbAdd, Add), Del: reported(VerbDel, Del), Check: reported(VerbCheck, Check), GC: reported(VerbGC, GC), Status: reported(VerbStatus, Status),
	},
		version.PluginSupports("0.4.0", "1.0.0", "1.1.0"), about)
}

func parse(stdin []byte) (config, error) {
	c := config{StateDir: DefaultStateDir}
	if err := json.Unmarshal(stdin, &c); err != nil {
		return c, types.NewError(types.ErrDecodingFailure, "the plugin's configuration is not valid", err.Error())
	}
	if c.RawPrevResult != nil {
		if err := version.ParsePrevResult(&c.PluginConf); err != nil {
			return c, types.NewError(types.ErrDecodingFailure, "the previous result is not valid", err.Error())
		}
	}
	return c, nil
}

func owner(a *skel.CmdArgs) lease.Owner {
	return lease.Owner{ContainerID: a.ContainerID, IfName: a.IfName}
}

// Add gives the pod an address and wires it. What it did is undone when it fails.
func Add(a *skel.CmdArgs) error {
	c, err := parse(a.StdinData)
	if err != nil {
		return err
	}
	var k args
	if err := types.LoadArgs(a.Args, &k); err != nil {
		return types.NewError(types.ErrInvalidEnvironmentVariables, "CNI_ARGS is not valid", err.Error())
	}
	if err := checkNetNS(a.Netns); err != nil {
		return err
	}
	store, err := lease.Open(c.StateDir)
	if err != nil {
		return failed("the leases cannot be opened", err)
	}
	request := lease.Request{Owner: owner(a), Pod: string(k.K8S_POD_NAMESPACE) + "/" + string(k.K8S_POD_NAME)}
	address, doc, err := acquire(c, store, request)
	if err != nil {
		return err
	}
	wired := wiring{netns: a.Netns, ifName: a.IfName, hostName: HostName(owner(a)), address: address, primary: doc.PrimaryAddress, mtu: doc.MTU, table: doc.PodTable}
	result, err := wired.setup()
	if err != nil {
		return failed("wiring the pod failed", errors.Join(err, wired.teardown(), store.Release(owner(a), time.Now())))
	}
	return types.PrintResult(result, c.CNIVersion)
}

// acquire leases an address, asking the agent for more when there is none.
func acquire(c config, store *lease.Store, request lease.Request) (address addr, doc *pool.Document, err error) {
	for asked := false; ; asked = true {
		var unread error
		request.Now = time.Now()
		request.Pool = func() (lease.Pool, error) {
			if doc, unread = readPool(c.StateDir); unread != nil {
				return lease.Pool{}, unread
			}
			return lease.Pool{Prefixes: doc.Prefixes(), Cooldown: doc.Cooldown()}, nil
		}
		address, err = store.Acquire(request)
		switch {
		case err == nil:
			return address, doc, nil
		case unread != nil:
			return address, nil, unread
		case !errors.Is(err, lease.ErrNoFreeAddress):
			return address, nil, failed("leasing an address failed", err)
		case asked:
			return address, nil, retry(shortage(doc), "")
		}
		if err := grow(c.StateDir); err != nil {
			return address, nil, retry(shortage(doc), err.Error())
		}
	}
}

func readPool(stateDir string) (*pool.Document, error) {
	doc, err := pool.Read(stateDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, retry("the node agent has not published addresses yet", "see the events of the node, and the logs of the agent on it")
	}
	if err != nil {
		return nil, failed("the address pool cannot be read", err)
	}
	return doc, nil
}

// shortage is the agent's own reason where it left one.
func shortage(doc *pool.Document) string {
	if doc.Shortage != nil {
		return doc.Shortage.Message
	}
	return fmt.Sprintf("all %d addresses of the node are leased or cooling down", doc.Capacity())
}

// Del takes the pod's wires down and releases its address. It needs neither the netns nor the agent, and may come twice.
func Del(a *skel.CmdArgs) error {
	c, err := parse(a.StdinData)
	if err != nil {
		return err
	}
	if err := (wiring{hostName: HostName(owner(a))}).teardown(); err != nil {
		return failed("taking the pod's link down failed", err)
	}
	store, err := lease.Open(c.StateDir)
	if err != nil {
		return failed("the leases cannot be opened", err)
	}
	if err := store.Release(owner(a), time.Now()); err != nil {
		return failed("releasing the address failed", err)
	}
	return nil
}

// Check compares lease, link, address and route with the previous result.
func Check(a *skel.CmdArgs) error {
	c, err := parse(a.StdinData)
	if err != nil {
		return err
	}
	if c.PrevResult == nil {
		return types.NewError(types.ErrInvalidNetworkConfig, "CHECK needs the previous result", "")
	}
	result, err := types100.NewResultFromResult(c.PrevResult)
	if err != nil {
		return types.NewError(types.ErrDecodingFailure, "the previous result is not valid", err.Error())
	}
	store, err := lease.Open(c.StateDir)
	if err != nil {
		return failed("the leases cannot be opened", err)
	}
	held, err := store.Get(owner(a))
	if err != nil {
		return failed("the pod has no lease", err)
	}
	if len(result.IPs) == 0 || !result.IPs[0].Address.IP.Equal(held.Address.AsSlice()) {
		return failed("the lease is of another address", fmt.Errorf("%s is leased", held.Address))
	}
	doc, err := pool.Read(c.StateDir)
	if err != nil {
		return failed("the address pool cannot be read", err)
	}
	w := wiring{netns: a.Netns, ifName: a.IfName, hostName: HostName(owner(a)), address: held.Address, mtu: doc.MTU, table: doc.PodTable}
	if err := w.check(); err != nil {
		return failed("the pod is not wired as it was", err)
	}
	return nil
}

// GC takes down the links of attachments that the runtime does not know, and releases their addresses.
func GC(a *skel.CmdArgs) error {
	c, err := parse(a.StdinData)
	if err != nil {
		return err
	}
	store, err := lease.Open(c.StateDir)
	if err != nil {
		return failed("the leases cannot be opened", err)
	}
	var valid []lease.Owner
	for _, attachment := range c.ValidAttachments {
		valid = append(valid, lease.Owner{ContainerID: attachment.ContainerID, IfName: attachment.IfName})
	}
	// Links first, as in DEL: a link that is there has a lease, whenever this ends.
	if err := teardownOthers(valid); err != nil {
		return failed("taking links down failed", err)
	}
	if err := store.Collect(valid, time.Now()); err != nil {
		return failed("releasing addresses failed", err)
	}
	return nil
}

// Status says whether an address can be served.
func Status(a *skel.CmdArgs) error {
	c, err := parse(a.StdinData)
	if err != nil {
		return err
	}
	doc, err := pool.Read(c.StateDir)
	if err != nil {
		return types.NewError(CodeNotAvailable, "the node agent has published no addresses", err.Error())
	}
	store, err := lease.Open(c.StateDir)
	if err != nil {
		return failed("the leases cannot be opened", err)
	}
	leased, cooling, err := store.Usage(doc.Cooldown(), time.Now())
	if err != nil {
		return failed("the leases cannot be read", err)
	}
	if doc.Capacity()-leased-cooling <= 0 && doc.Shortage != nil {
		return types.NewError(CodeNotAvailable, shortage(doc), "")
	}
	return nil
}

func retry(message, details string) error {
	return types.NewError(types.ErrTryAgainLater, message, details)
}

func failed(message string, err error) error {
	if errors.Is(err, unix.ENOSPC) {
		return types.NewError(types.ErrIOFailure, message+": the file system of the state directory is full", err.Error())
	}
	return types.NewError(types.ErrInternal, message, err.Error())
}
