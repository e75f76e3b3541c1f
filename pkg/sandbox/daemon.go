// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/hollow"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

const (
	namespaceDir  = "/run/sandbox"
	apiServerPort = 443
	// File descriptors that startDaemon hands over, after the three standard ones.
	fdAPIServer, fdAWS, fdSteps = 3, 4, 5
)

// DaemonOptions of the process that startDaemon starts.
type DaemonOptions struct {
	Options
	APIServer string // the API server's URL on the host
}

// daemon is the first process in the sandbox's namespaces.
type daemon struct {
	opts     DaemonOptions
	log      *slog.Logger
	cloud    *aws.Cloud
	network  *vpc.Network
	control  *controlplane.ControlPlane
	machines *machines
	hollow   *hollow.Nodes // nil but with hollow kubelets
	config   awssdk.Config // for the daemon's own calls
	endpoint netip.Addr    // of the API server in the VPC

	applying sync.Mutex
	baking   sync.Mutex // of opts.Images
}

// RunDaemon runs a sandbox until the context ends or a part of it fails.
func RunDaemon(ctx context.Context, opts DaemonOptions) error {
	steps := os.NewFile(fdSteps, "steps")
	d := &daemon{opts: opts, log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	d.machines = newMachines(d)
	report := json.NewEncoder(steps)
	type part struct {
		name string
		run  func(context.Context) error
	}
	parts := []part{{"namespaces", d.prepare}}
	if opts.Kubelet == Real {
		parts = append(parts, part{"images", d.bake})
	}
	parts = append(parts,
		part{"AWS account with its VPC", d.startAWS},
		part{"control plane", d.startControlPlane})
	if opts.Kubelet == Hollow {
		parts = append(parts, part{"hollow nodes", d.startHollow})
	}
	if opts.Layout == Exhausted {
		parts = append(parts, part{"other services' addresses", d.startNeighbours}, part{"aws-node and the node group that it serves", d.startVPCCNI})
	}
	if !opts.Bare {
		parts = append(parts, part{"custom resources and chart", d.install})
	}
	parts = append(parts, part{"managed node group", d.startSystemNode})
	for _, s := range parts {
		started := time.Now()
		if err := run(ctx, s.run); err != nil {
			return errors.Join(err, report.Encode(step{Name: s.name, Error: err.Error()}))
		}
		if err := report.Encode(step{Name: s.name, Seconds: time.Since(started).Seconds()}); err != nil {
			return err // nobody waits for this sandbox any more
		}
	}
	if err := report.Encode(step{Ready: true}); err != nil {
		return err
	}
	steps.Close()
	return d.control.Wait(ctx)
}

// patience with a part of the sandbox: the longest takes seconds.
const patience = 2 * time.Minute

func run(ctx context.Context, part func(context.Context) error) error {
	done := make(chan error, 1)
	go func() { done <- part(ctx) }()
	select {
	case err := <-done:
		return err
	case <-time.After(patience):
		return fmt.Errorf("not ready after %s", patience)
	}
}

// prepare makes the process's own file systems and loopback.
func (d *daemon) prepare(context.Context) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("making mounts private: %w", err)
	}
	for target, kind := range map[string]string{"/proc": "proc", "/run": "tmpfs"} {
		if err := unix.Mount(kind, target, kind, 0, ""); err != nil {
			return fmt.Errorf("mounting %s: %w", target, err)
		}
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	return netlink.LinkSetUp(lo)
}

// startAWS starts the simulator, builds the account and brings its packets to life.
func (d *daemon) startAWS(ctx context.Context) error {
	profile, err := aws.ProfileByName(d.opts.Latency)
	if err != nil {
		return err
	}
	d.cloud = aws.New(aws.Options{Region: Region, Latency: profile, Seed: time.Now().UnixNano()})
	d.cloud.ReserveIDs(d.opts.layout().ids())
	if d.network, err = vpc.New(namespaceDir); err != nil {
		return err
	}
	if err := d.serveAWS(); err != nil {
		return err
	}
	d.config = awssdk.Config{
		Region: Region, BaseEndpoint: awssdk.String(endpointURL), Credentials: credentials.NewStaticCredentialsProvider("sandbox", "sandbox", ""),
	}
	api := ec2.NewFromConfig(d.config)
	if err := d.opts.layout().build(ctx, api); err != nil {
		return err
	}
	if err := d.buildRoles(ctx); err != nil {
		return fmt.Errorf("IAM roles: %w", err)
	}
	id, address, err := createEndpointENI(ctx, api)
	if err != nil {
		return fmt.Errorf("ENI of the API server: %w", err)
	}
	if err := d.cloud.AttachToService(id, "eks"); err != nil {
		return err
	}
	d.endpoint = address
	d.network.Plug(id, d.network.AWSPath(), "eks")
	if err := d.buildPeer(ctx, api); err != nil {
		return fmt.Errorf("peered VPC: %w", err)
	}
	if err := d.apply(ctx); err != nil {
		return err
	}
	go d.follow(ctx)
	return nil
}

// serveAWS offers the APIs inside and on the host, and the metadata service in the VPC.
func (d *daemon) serveAWS() error {
	inside, err := net.Listen("tcp", net.JoinHostPort(vpc.AWSEndpoint.String(), "80"))
	if err != nil {
		return fmt.Errorf("AWS endpoint: %w", err)
	}
	host, err := inherited(fdAWS, "aws")
	if err != nil {
		return err
	}
	err = d.network.ServeMetadata(func(vpcID string) http.Handler {
		return d.cloud.IMDS(func(remote netip.Addr) (string, bool) { return vpc.InstanceOf(d.cloud.Snapshot(), vpcID, remote) })
	})
	if err != nil {
		return fmt.Errorf("instance metadata service: %w", err)
	}
	handler := d.cloud.Handler()
	serve := func(listener net.Listener, handler http.Handler) {
		server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
		go func() { d.log.Error("serving", "address", listener.Addr(), "error", server.Serve(listener)) }()
	}
	serve(inside, handler)
	serve(host, handler)
	return nil
}

func inherited(fd uintptr, name string) (net.Listener, error) {
	file := os.NewFile(fd, name)
	defer file.Close()
	listener, err := net.FileListener(file)
	if err != nil {
		return nil, fmt.Errorf("inherited listener %s: %w", name, err)
	}
	return listener, nil
}

// follow applies each change of the account to the packets and the machines.
func (d *daemon) follow(ctx context.Context) {
	changed := d.cloud.Changed()
	for {
		select {
		case <-ctx.Done():
			return
		case <-changed:
		}
		if err := d.apply(ctx); err != nil {
			d.log.Error("applying the account's state", "error", err)
		}
	}
}

func (d *daemon) apply(ctx context.Context) error {
	d.applying.Lock()
	defer d.applying.Unlock()
	snapshot := d.cloud.Snapshot()
	if d.hollow != nil {
		snapshot = d.takeHollow(ctx, snapshot)
	}
	// Processes first where they end, so that none outlives its namespace; links first where they start.
	d.machines.stop(snapshot)
	return errors.Join(d.network.Apply(snapshot), d.machines.start(snapshot))
}

// startControlPlane serves the API server in the VPC, at an ENI of the cluster, and on the host.
func (d *daemon) startControlPlane(ctx context.Context) error {
	dir := filepath.Join(d.opts.Dir, "control-plane")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	var err error
	d.control, err = controlplane.Start(ctx, controlplane.Options{
		Dir: dir, LogDir: logDir(d.opts.Dir), BinDir: d.opts.BinDir,
		Bind: netip.IPv4Unspecified(), Port: apiServerPort, Advertise: d.endpoint,
		ServiceCIDR: netip.MustParsePrefix(serviceCIDR), Controllers: true,
		Audited: []string{ServiceAccountPrefix + "controller", ServiceAccountPrefix + "agent"},
	})
	if err != nil {
		return err
	}
	kubeconfig, err := d.control.AdminKubeconfig(d.opts.APIServer)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(d.opts.Dir, "kubeconfig"), kubeconfig, 0o600); err != nil {
		return err
	}
	host, err := inherited(fdAPIServer, "api-server")
	if err != nil {
		return err
	}
	go d.proxy(host, net.JoinHostPort("127.0.0.1", fmt.Sprint(apiServerPort)))
	subnets := []string{}
	for _, s := range d.opts.layout().subnets {
		if s.discover {
			subnets = append(subnets, s.id)
		}
	}
	d.cloud.SetCluster(aws.Cluster{
		Name: ClusterName, Endpoint: "https://" + d.endpoint.String(), CA: d.control.CA(), Version: controlplane.Version,
		ServiceCIDR: netip.MustParsePrefix(serviceCIDR), VPCID: VPCID, SubnetIDs: subnets, GroupID: GroupID,
	})
	d.cloud.SubscribeEvents(ClusterName) // Karpenter's set-up names its interruption queue after the cluster
	for name, component := range d.control.Components() {
		d.cloud.SetComponent(name, component)
	}
	if err := d.forgetNodes(ctx); err != nil {
		return err
	}
	return d.serveControl()
}

// proxy joins each connection with one to the target.
func (d *daemon) proxy(listener net.Listener, target string) {
	for {
		client, err := listener.Accept()
		if err != nil {
			d.log.Error("accepting a connection", "error", err)
			return
		}
		go func() {
			defer client.Close()
			server, err := net.Dial("tcp", target)
			if err != nil {
				d.log.Warn("connecting to the API server", "error", err)
				return
			}
			defer server.Close()
			done := make(chan struct{}, 2)
			pipe := func(to, from net.Conn) {
				_, _ = io.Copy(to, from) // either side may end the connection
				done <- struct{}{}
			}
			go pipe(server, client)
			go pipe(client, server)
			<-done
		}()
	}
}

// serveControl answers the sandbox's users: see Sandbox.control.
func (d *daemon) serveControl() error {
	var listener net.Listener
	err := atControlSocket(d.opts.Dir, func(path string) (err error) {
		listener, err = net.Listen("unix", path)
		return err
	})
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		translations, err := d.network.Translations()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(Status{Instances: d.machines.status(), Translations: translations}) // a client that is gone needs none
	})
	mux.HandleFunc("GET /account", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(d.cloud.Snapshot()) // a client that is gone needs none
	})
	mux.HandleFunc("POST /images", func(w http.ResponseWriter, r *http.Request) {
		if err := d.load(r.Context(), r.FormValue("archive")); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	faults := d.cloud.FaultsHandler()
	mux.Handle(aws.FaultsPath, faults)
	mux.Handle(aws.FaultsPath+"/", faults)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { d.log.Error("control socket", "error", server.Serve(listener)) }()
	return nil
}
