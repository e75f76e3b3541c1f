// SPDX-License-Identifier: Apache-2.0

package node_test

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

	"github.com/containernetworking/cni/pkg/types"
	"github.com/stretchr/testify/require"
	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/agent/lease"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/cni"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// instance on which the built agent and the built plugin run, in its network namespace.
type instance struct {
	world             *world
	id, name, netns   string
	address           netip.Addr
	stateDir, confDir string
	log               string

	mu    sync.Mutex
	agent *exec.Cmd
}

func (i *instance) in(f func() error) error { return netns.Do(i.netns, f) }

func hasLink(name string) error {
	_, err := netlink.LinkByName(name)
	return err
}

// startAgent runs a build of the agent until it is killed.
func (i *instance) startAgent(t *testing.T, binary string) {
	t.Helper()
	log, err := os.OpenFile(i.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	defer log.Close()
	cmd := exec.Command(binary, "--node-name", i.name, "--cluster-name", "test", "--state-dir", i.stateDir, "--cni-conf-dir", i.confDir)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+i.world.config, "AWS_ENDPOINT_URL="+i.world.awsURL, "AWS_REGION=us-east-1", "AWS_ACCESS_KEY_ID=a", "AWS_SECRET_ACCESS_KEY=b")
	cmd.Stdout, cmd.Stderr = log, log
	i.mu.Lock()
	defer i.mu.Unlock()
	require.Nil(t, i.agent)
	require.NoError(t, i.in(cmd.Start))
	i.agent = cmd
}

// killAgent with SIGKILL, if it runs.
func (i *instance) killAgent() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.agent != nil {
		_ = i.agent.Process.Kill() // it may have ended
		_ = i.agent.Wait()
		i.agent = nil
	}
}

func (i *instance) agentRuns() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.agent != nil
}

func agentBinary() string { return filepath.Join(controlplanetest.BinDir(), "agent") }

// pod sandbox. A runtime makes another one for each attempt; here the same one is used again.
type pod struct {
	name, id, netns string
	// address that it runs with; not valid from the start of a DEL, or before an ADD has succeeded.
	address netip.Addr
}

func newPod(t *testing.T, name string) *pod {
	t.Helper()
	p := &pod{name: name, id: "sandbox-" + name, netns: "/run/netns/" + name}
	require.NoError(t, netns.Create(p.netns))
	t.Cleanup(func() { require.NoError(t, netns.Delete(p.netns)) })
	return p
}

func (i *instance) configuration(more map[string]any) []byte {
	config := map[string]any{"cniVersion": "1.1.0", "name": "dovetail", "type": cni.Type, "stateDir": i.stateDir}
	for key, value := range more {
		config[key] = value
	}
	raw, err := json.Marshal(config)
	if err != nil {
		panic(err)
	}
	return raw
}

// errKilled says that a plugin did not come to its end.
var errKilled = errors.New("killed")

// plugin runs the built plugin as a runtime does, and kills it after a while; 0: never.
func (i *instance) plugin(command string, p *pod, stdin []byte, after time.Duration) ([]byte, error) {
	cmd := exec.Command(filepath.Join(controlplanetest.BinDir(), "cni"))
	cmd.Env = append(os.Environ(), "CNI_COMMAND="+command, "CNI_PATH=/opt/cni/bin")
	if p != nil {
		cmd.Env = append(cmd.Env, "CNI_CONTAINERID="+p.id, "CNI_NETNS="+p.netns, "CNI_IFNAME=eth0",
			"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME="+p.name)
	}
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &out, &errs
	if err := i.in(cmd.Start); err != nil {
		return nil, err
	}
	if after > 0 {
		timer := time.AfterFunc(after, func() { _ = cmd.Process.Kill() }) // it may have ended
		defer timer.Stop()
	}
	err := cmd.Wait()
	if err == nil {
		return out.Bytes(), nil
	}
	if !cmd.ProcessState.Exited() {
		return nil, errKilled
	}
	failure := &types.Error{}
	if json.Unmarshal(out.Bytes(), failure) == nil && failure.Code != 0 {
		return nil, failure
	}
	return nil, fmt.Errorf("%w: %s%s", err, out.String(), errs.String())
}

// add starts the pod; its address is valid when that succeeded.
func (i *instance) add(p *pod, after time.Duration) error {
	out, err := i.plugin("ADD", p, i.configuration(nil), after)
	if err != nil {
		return err
	}
	var result struct {
		IPs []struct {
			Address netip.Prefix `json:"address"`
		} `json:"ips"`
	}
	if err := json.Unmarshal(out, &result); err != nil {
		return err
	}
	p.address = result.IPs[0].Address.Addr()
	return nil
}

// del ends the pod.
func (i *instance) del(p *pod, after time.Duration) error {
	p.address = netip.Addr{}
	_, err := i.plugin("DEL", p, i.configuration(nil), after)
	return err
}

// gc tells the plugin which pods live.
func (i *instance) gc(living []*pod, after time.Duration) error {
	valid := []any{}
	for _, p := range living {
		valid = append(valid, map[string]any{"containerID": p.id, "ifname": "eth0"})
	}
	_, err := i.plugin("GC", nil, i.configuration(map[string]any{"cni.dev/valid-attachments": valid}), after)
	return err
}

func (i *instance) leases(t require.TestingT) []lease.Lease {
	store, err := lease.Open(i.stateDir)
	require.NoError(t, err)
	leases, err := store.List()
	require.NoError(t, err)
	return leases
}

func (i *instance) pool(t require.TestingT) *pool.Document {
	doc, err := pool.Read(i.stateDir)
	require.NoError(t, err)
	return doc
}
