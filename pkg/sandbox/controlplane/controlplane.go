// SPDX-License-Identifier: Apache-2.0

package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/process"
)

// Version of Kubernetes that hack/controlplane builds, as EKS names it.
const Version = "1.35"

// Programs that must be in Options.BinDir.
func Programs() []string {
	return []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"}
}

// Options of a control plane.
type Options struct {
	Dir    string // certificates, kubeconfigs and etcd's data; must exist
	LogDir string // default Dir
	BinDir string // see Programs

	Bind        netip.Addr   // the API server listens here; default 127.0.0.1
	Port        int          // default: a free one
	Advertise   netip.Addr   // what the Endpoints of the kubernetes Service name; default: Bind
	Addresses   []netip.Addr // further addresses that the serving certificate names
	ServiceCIDR netip.Prefix // default 172.20.0.0/16, as EKS chooses in a 10.0.0.0/8 VPC

	// Controllers starts kube-controller-manager and kube-scheduler too.
	Controllers bool

	// Audited are users whose requests the API server logs, see AuditLog.
	Audited []string
}

func (o *Options) complete() {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if o.LogDir == "" {
		o.LogDir = o.Dir
	}
	if !o.Bind.IsValid() {
		o.Bind = loopback
	}
	if !o.Advertise.IsValid() {
		o.Advertise = o.Bind
	}
	if !o.ServiceCIDR.IsValid() {
		o.ServiceCIDR = netip.MustParsePrefix("172.20.0.0/16")
	}
}

// ControlPlane is running when Start returned it.
type ControlPlane struct {
	opts      Options
	authority *authority
	admin     keyPair
	port      int
	held      *port // nil when Options.Port was given

	components []*Component
	failed     chan *process.Process
}

// Start starts a control plane and returns when it is ready. Whatever it started is stopped when it fails.
func Start(ctx context.Context, opts Options) (_ *ControlPlane, err error) {
	opts.complete()
	cp := &ControlPlane{opts: opts, port: opts.Port, failed: make(chan *process.Process, 1)}
	defer func() {
		if err != nil {
			cp.Stop()
		}
	}()
	if cp.port == 0 {
		if cp.held, err = holdPort(opts.Bind); err != nil {
			return nil, err
		}
		cp.port = cp.held.number
	}
	if err := cp.writeCredentials(); err != nil {
		return nil, fmt.Errorf("control plane's certificates: %w", err)
	}
	if err := cp.startEtcd(); err != nil {
		return nil, err
	}
	if err := cp.startAPIServer(ctx); err != nil {
		return nil, err
	}
	if opts.Controllers {
		if err := cp.startControllerManager(); err != nil {
			return nil, err
		}
		if err := cp.startScheduler(); err != nil {
			return nil, err
		}
	}
	for _, c := range cp.components {
		c.supervise()
	}
	return cp, nil
}

// Stop ends the processes, the last started first.
func (cp *ControlPlane) Stop() {
	for _, c := range slices.Backward(cp.components) {
		// Nothing is worth a graceful end: the data goes with the directory.
		_ = c.Stop() // it may be stopped already
	}
	cp.components = nil
	if cp.held != nil {
		cp.held.release()
		cp.held = nil
	}
}

// Wait blocks until a component ends again and again, which none does in a healthy control plane, or the context ends.
func (cp *ControlPlane) Wait(ctx context.Context) error {
	select {
	case p := <-cp.failed:
		return p.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// CA is the certificate of the authority that signed the API server's certificate, PEM.
func (cp *ControlPlane) CA() []byte { return cp.authority.pem }

// Port that the API server listens on.
func (cp *ControlPlane) Port() int { return cp.port }

// RESTConfig of a cluster administrator, for clients in this network namespace. Each call returns a new one.
func (cp *ControlPlane) RESTConfig() *rest.Config {
	host := cp.opts.Bind
	if host.IsUnspecified() {
		host = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return cp.restConfig("https://"+net.JoinHostPort(host.String(), strconv.Itoa(cp.port)), cp.admin)
}

// AdminKubeconfig is the kubeconfig of a cluster administrator who reaches the API server at this URL.
func (cp *ControlPlane) AdminKubeconfig(server string) ([]byte, error) {
	return kubeconfig(cp.restConfig(server, cp.admin))
}

// NodeKubeconfig is the kubeconfig of a kubelet: it authenticates as system:node:<nodeName>.
func (cp *ControlPlane) NodeKubeconfig(server, nodeName string) ([]byte, error) {
	pair, err := cp.authority.client("system:node:"+nodeName, "system:nodes")
	if err != nil {
		return nil, fmt.Errorf("certificate of node %s: %w", nodeName, err)
	}
	return kubeconfig(cp.restConfig(server, pair))
}

// ProxyKubeconfig is the kubeconfig of kube-proxy.
func (cp *ControlPlane) ProxyKubeconfig(server string) ([]byte, error) {
	pair, err := cp.authority.client("system:kube-proxy")
	if err != nil {
		return nil, err
	}
	return kubeconfig(cp.restConfig(server, pair))
}

func (cp *ControlPlane) restConfig(server string, pair keyPair) *rest.Config {
	return &rest.Config{
		Host:            server,
		TLSClientConfig: rest.TLSClientConfig{CAData: cp.authority.pem, CertData: pair.cert, KeyData: pair.key},
		QPS:             -1, // the API server's own fairness decides
	}
}

func (cp *ControlPlane) path(name string) string { return filepath.Join(cp.opts.Dir, name) }

// writeCredentials writes what the processes read at start.
func (cp *ControlPlane) writeCredentials() error {
	var err error
	if cp.authority, err = newAuthority("dovetail-sandbox"); err != nil {
		return err
	}
	if cp.admin, err = cp.authority.client("kubernetes-admin", "system:masters"); err != nil {
		return err
	}
	ips := []net.IP{net.IPv4(127, 0, 0, 1), cp.opts.Bind.AsSlice(), cp.opts.Advertise.AsSlice(),
		cp.opts.ServiceCIDR.Masked().Addr().Next().AsSlice()}
	for _, a := range cp.opts.Addresses {
		ips = append(ips, a.AsSlice())
	}
	serving, err := cp.authority.server("kube-apiserver",
		[]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"}, ips)
	if err != nil {
		return err
	}
	signing, err := serviceAccountKey()
	if err != nil {
		return err
	}
	kubeletClient, err := cp.authority.client("kube-apiserver-kubelet-client", "system:masters")
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"ca.crt": cp.authority.pem, "kubelet-client.crt": kubeletClient.cert, "kubelet-client.key": kubeletClient.key,
		"apiserver.crt": serving.cert, "apiserver.key": serving.key, "sa.key": signing,
	}
	for _, user := range []string{"kube-controller-manager", "kube-scheduler"} {
		pair, err := cp.authority.client("system:" + user)
		if err != nil {
			return err
		}
		if files[user+".kubeconfig"], err = kubeconfig(cp.restConfig(cp.RESTConfig().Host, pair)); err != nil {
			return err
		}
	}
	for name, content := range files {
		if err := os.WriteFile(cp.path(name), content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func (cp *ControlPlane) start(name string, args ...string) (*Component, error) {
	path, err := process.Find(cp.opts.BinDir, name)
	if err != nil {
		return nil, fmt.Errorf("%w: run make controlplane", err)
	}
	c := &Component{
		params: process.Params{Name: name, Path: path, Args: args, Dir: cp.opts.Dir, LogDir: cp.opts.LogDir},
		failed: cp.failed,
	}
	if err := c.Start(); err != nil {
		return nil, err
	}
	cp.components = append(cp.components, c)
	return c, nil
}

// etcdSocket is a file in the working directory: there is no port to choose, and no limit on the length of Dir. etcd wants
// a host and a port even in the address of a socket; to it they are the file's name.
const etcdSocket = "etcd.sock:0"

func (cp *ControlPlane) startEtcd() error {
	const client, peer = "unix://" + etcdSocket, "unix://peer." + etcdSocket
	_, err := cp.start("etcd",
		"--name=sandbox", "--data-dir="+cp.path("etcd"),
		"--listen-client-urls="+client, "--advertise-client-urls="+client,
		"--listen-peer-urls="+peer, "--initial-advertise-peer-urls="+peer, "--initial-cluster=sandbox="+peer,
		"--unsafe-no-fsync", // the data need not survive the machine
		"--log-level=warn")
	return err
}

func (cp *ControlPlane) startAPIServer(ctx context.Context) error {
	audit, err := cp.auditFlags()
	if err != nil {
		return err
	}
	server, err := cp.start("kube-apiserver", append(audit,
		"--etcd-servers=unix:"+etcdSocket,
		"--bind-address="+cp.opts.Bind.String(), "--secure-port="+strconv.Itoa(cp.port), "--permit-port-sharing",
		"--advertise-address="+cp.opts.Advertise.String(),
		"--tls-cert-file="+cp.path("apiserver.crt"), "--tls-private-key-file="+cp.path("apiserver.key"),
		"--client-ca-file="+cp.path("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+cp.path("sa.key"), "--service-account-signing-key-file="+cp.path("sa.key"),
		"--service-cluster-ip-range="+cp.opts.ServiceCIDR.String(),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--allow-privileged", "--profiling=false",
		"--kubelet-preferred-address-types=InternalIP", // for logs, exec and port-forward
		"--kubelet-client-certificate="+cp.path("kubelet-client.crt"), "--kubelet-client-key="+cp.path("kubelet-client.key"))...)
	if err != nil {
		return err
	}
	client, err := discovery.NewDiscoveryClientForConfig(cp.RESTConfig())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	return server.process.WaitReady(ctx, func(ctx context.Context) error {
		_, err := client.RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	})
}

func (cp *ControlPlane) startControllerManager() error {
	kubeconfig := cp.path("kube-controller-manager.kubeconfig")
	_, err := cp.start("kube-controller-manager",
		"--kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--secure-port=0", "--leader-elect=false", "--profiling=false",
		"--use-service-account-credentials",
		"--service-account-private-key-file="+cp.path("sa.key"), "--root-ca-file="+cp.path("ca.crt"),
		"--controllers=*,-node-ipam-controller", // pods get VPC addresses
		"--kube-api-qps=500", "--kube-api-burst=1000")
	return err
}

func (cp *ControlPlane) startScheduler() error {
	kubeconfig := cp.path("kube-scheduler.kubeconfig")
	_, err := cp.start("kube-scheduler",
		"--kubeconfig="+kubeconfig, "--authentication-kubeconfig="+kubeconfig, "--authorization-kubeconfig="+kubeconfig,
		"--secure-port=0", "--leader-elect=false", "--profiling=false",
		"--kube-api-qps=500", "--kube-api-burst=1000")
	return err
}

// ErrNotBuilt is wrapped by errors about programs that have not been built yet.
var ErrNotBuilt = errors.New("the control plane is not built: run make controlplane")

// CheckBuilt returns an error when a program of the control plane is not in dir.
func CheckBuilt(dir string) error {
	for _, name := range Programs() {
		if _, err := process.Find(dir, name); err != nil {
			return fmt.Errorf("%w (%w)", ErrNotBuilt, err)
		}
	}
	return nil
}
