// SPDX-License-Identifier: Apache-2.0

// Package sandbox is a cluster to try Dovetail on without an AWS account: a real control plane, a simulated AWS account,
// a VPC of real packets and stand-ins for kubelets, in namespaces of their own. The host's network is not touched: the API
// server and the AWS APIs are reached through two ports on loopback.
//
// Up starts a daemon that is the first process of a process namespace; everything ends with it.
package sandbox

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/ami"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/kubelet"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/process"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

// Options of a sandbox.
type Options struct {
	Dir     string    // state and logs
	BinDir  string    // controller, agent, cni, portmap and the control plane's programs
	Latency string    // profile of the AWS simulator: fast or aws
	Kubelet string    // what instances run: StandIn, Real or Hollow
	Layout  string    // of the VPC: Prepared or Exhausted
	Images  []string  // archives that instances with real kubelets find their images in
	Bare    bool      // without Dovetail: what EKS gives a new cluster
	Values  string    // file of values for the chart, besides what it needs here
	Out     io.Writer // a line for each step
}

// Kinds of kubelets.
const (
	// StandIn is pkg/sandbox/kubelet: light, without containers.
	StandIn = "stand-in"
	// Real is the kubelet with containerd: see pkg/sandbox/ami.
	Real = "real"
	// Hollow is pkg/sandbox/hollow: nodes in the API server only.
	Hollow = "hollow"
)

// DefaultDir follows the XDG base directories.
func DefaultDir() string {
	state := os.Getenv("XDG_STATE_HOME")
	if state == "" {
		home, err := os.UserHomeDir()
		if err != nil {
			home = os.TempDir()
		}
		state = filepath.Join(home, ".local", "state")
	}
	return filepath.Join(state, "dovetail", "sandbox")
}

// Programs that a sandbox needs in its BinDir besides the control plane's.
func Programs() []string { return []string{"controller", "agent", "cni", "portmap"} }

// Sandbox that is running.
type Sandbox struct {
	Dir    string `json:"-"`
	BinDir string `json:"binDir"`
	PID    int    `json:"pid"` // of the daemon, as the host sees it
	// Started distinguishes the daemon from a later process with its id: clock ticks since boot.
	Started    string  `json:"started"`
	Kubeconfig string  `json:"kubeconfig"`
	APIServer  string  `json:"apiServer"` // URLs on the host's loopback
	AWS        string  `json:"aws"`
	UserNS     bool    `json:"userNamespace"`
	Kubelet    string  `json:"kubelet"`
	UpSeconds  float64 `json:"upSeconds"`
	// Values that the chart needs here.
	Values map[string]any `json:"values"`
}

var (
	// ErrNotRunning says that there is no sandbox in the directory.
	ErrNotRunning = errors.New("no sandbox is running: start one with `dovetail sandbox up`")
	// ErrRunning says that there is one already.
	ErrRunning = errors.New("a sandbox is running already: use it, or end it with `dovetail sandbox down`")
)

// Up starts a sandbox and returns when the controller in it is available, or its system node has joined where there is none.
func Up(ctx context.Context, opts Options) (*Sandbox, error) {
	for _, path := range []*string{&opts.Dir, &opts.BinDir, &opts.Values} { // the daemon's machines have another working directory
		if *path == "" {
			continue
		}
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return nil, err
		}
		*path = absolute
	}
	if err := controlplane.CheckBuilt(opts.BinDir); err != nil {
		return nil, err
	}
	for _, name := range Programs() {
		if _, err := process.Find(opts.BinDir, name); err != nil {
			return nil, fmt.Errorf("%w: run make build", err)
		}
	}
	if err := errors.Join(opts.checkKubelet(), opts.checkLayout()); err != nil {
		return nil, err
	}
	values, err := opts.chartValues()
	if err != nil {
		return nil, err
	}
	if _, err := aws.ProfileByName(opts.Latency); err != nil {
		return nil, err
	}
	if _, err := exec.LookPath("nsenter"); err != nil {
		return nil, fmt.Errorf("nsenter is missing: apt-get install util-linux")
	}
	unlock, err := lock(opts.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := Open(opts.Dir); err == nil {
		return nil, fmt.Errorf("%w (in %s)", ErrRunning, opts.Dir)
	}
	if err := clear(opts.Dir); err != nil {
		return nil, err
	}
	started := time.Now()
	s, err := startDaemon(ctx, opts)
	if err != nil {
		return nil, err
	}
	s.UpSeconds = time.Since(started).Seconds()
	s.Values = values
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, err
	}
	return s, os.WriteFile(stateFile(opts.Dir), content, 0o600)
}

// checkKubelet says what is missing for the kind of kubelet that is asked for.
func (o *Options) checkKubelet() error {
	switch o.Kubelet {
	case "":
		o.Kubelet = StandIn
	case StandIn, Hollow:
	case Real:
		if os.Getuid() != 0 {
			return fmt.Errorf("real kubelets need root: containers get control groups of the host")
		}
		for _, name := range append(ami.Programs(), ami.PackagesDir+"/usr/bin/containerd") {
			if _, err := process.Find(o.BinDir, name); err != nil {
				return fmt.Errorf("%w: run make node-programs", err)
			}
		}
		if len(o.Images) == 0 {
			o.Images = []string{filepath.Join(o.BinDir, "images.tar")}
		}
		for _, archive := range append(slices.Clone(o.Images), pauseArchive(o.BinDir)) {
			if _, err := os.Stat(archive); err != nil {
				return fmt.Errorf("images for real kubelets: %w: run make images", err)
			}
		}
		for i, archive := range o.Images {
			absolute, err := filepath.Abs(archive)
			if err != nil {
				return err
			}
			o.Images[i] = absolute
		}
	default:
		return fmt.Errorf("kubelet %q is not known: use %s, %s or %s", o.Kubelet, StandIn, Real, Hollow)
	}
	return nil
}

// Open finds the sandbox that runs in a directory.
func Open(dir string) (*Sandbox, error) {
	content, err := os.ReadFile(stateFile(dir))
	if err != nil {
		return nil, fmt.Errorf("%w (%s)", ErrNotRunning, dir)
	}
	s := &Sandbox{Dir: dir}
	if err := json.Unmarshal(content, s); err != nil {
		return nil, fmt.Errorf("%s: %w", stateFile(dir), err)
	}
	if started, err := startTime(s.PID); err != nil || started != s.Started {
		return nil, fmt.Errorf("%w (%s)", ErrNotRunning, dir)
	}
	return s, nil
}

// Down ends the sandbox: its first process, and with it all others. Logs stay.
func (s *Sandbox) Down(ctx context.Context) error {
	if err := syscall.Kill(s.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("ending the sandbox: %w", err)
	}
	// A process of another parent gives no event here.
	ticker := time.NewTicker(20 * time.Millisecond)
	defer ticker.Stop()
	for {
		if started, err := startTime(s.PID); err != nil || started != s.Started {
			return clear(s.Dir)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the sandbox does not end: %w", ctx.Err())
		case <-ticker.C:
		}
	}
}

// The sandbox takes any key of a user's. These are such that they are found where they should not be.
const (
	UserAccessKeyID     = "AKIASANDBOX000000000"
	UserSecretAccessKey = "sandboxSecretAccessKeyOfTheUser000000000" //nolint:gosec // of nobody
)

// Env of programs on the host that are to use the sandbox.
func (s *Sandbox) Env() []string {
	return []string{
		"KUBECONFIG=" + s.Kubeconfig,
		"AWS_ENDPOINT_URL=" + s.AWS, "AWS_REGION=" + Region, "AWS_ACCESS_KEY_ID=" + UserAccessKeyID, "AWS_SECRET_ACCESS_KEY=" + UserSecretAccessKey,
	}
}

// Target says where in the sandbox a command runs. Empty: where the control plane is.
type Target struct {
	Instance string // id
	PodUID   string // of a pod on Instance
	Host     string // vpc or internet
}

// Command prepares a command inside. The caller sets its standard streams and runs it.
func (s *Sandbox) Command(ctx context.Context, target Target, args ...string) (*exec.Cmd, error) {
	enter := []string{"nsenter", "--target", strconv.Itoa(s.PID), "--mount", "--net", "--pid"}
	if s.UserNS {
		enter = append(enter, "--user", "--preserve-credentials")
	}
	pid := 0
	if target.Instance != "" {
		status, err := s.Status(ctx)
		if err != nil {
			return nil, err
		}
		for _, instance := range status.Instances {
			if instance.ID == target.Instance {
				pid = instance.PID
			}
		}
		if pid == 0 {
			return nil, fmt.Errorf("instance %s is not running in the sandbox", target.Instance)
		}
		// The network namespace by its file: a thread of the process may be in a pod's for a moment.
		enter = append(enter, "--", "nsenter", "--target", strconv.Itoa(pid), "--mount", "--pid", "--uts", "--net="+filepath.Join(namespaceDir, target.Instance))
	}
	if target.PodUID != "" {
		path := filepath.Join(kubelet.NetNSDir, target.PodUID)
		if s.Kubelet == Real {
			var err error
			if path, err = ami.PodNetNS(fmt.Sprintf("/proc/%d/root/proc/%d/root", s.PID, pid), target.PodUID); err != nil {
				return nil, err
			}
		}
		enter = append(enter, "--", "nsenter", "--net="+path)
	}
	if target.Host != "" {
		name := target.Host
		if name == "vpc" {
			name = VPCID
		}
		enter = append(enter, "--", "nsenter", "--net="+filepath.Join(namespaceDir, name))
	}
	enter = append(append(enter, "--"), args...)
	cmd := exec.CommandContext(ctx, enter[0], enter[1:]...)
	cmd.Env = append(os.Environ(), "PATH="+s.BinDir+":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
	return cmd, nil
}

// Status of what runs in a sandbox.
type Status struct {
	Instances    []InstanceStatus  `json:"instances"`
	Translations []vpc.Translation `json:"translations"`
}

// InstanceStatus is an instance with processes.
type InstanceStatus struct {
	ID   string `json:"id"`
	Node string `json:"node"`
	PID  int    `json:"pid"` // in the sandbox's process namespace
}

// Status asks the daemon.
func (s *Sandbox) Status(ctx context.Context) (Status, error) {
	var status Status
	return status, s.control(ctx, http.MethodGet, "/status", &status)
}

// Account is what there is in the simulated account, for who compares: no fault, latency or request bucket of its APIs is in the way.
func (s *Sandbox) Account(ctx context.Context) (aws.Snapshot, error) {
	var account aws.Snapshot
	return account, s.control(ctx, http.MethodGet, "/account", &account)
}

// controlURL stands for the control socket in the requests of Sandbox.client.
const controlURL = "http://sandbox"

// client of the daemon's control socket. Its connections end with their requests.
func (s *Sandbox) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var conn net.Conn
		err := atControlSocket(s.Dir, func(path string) (err error) {
			conn, err = (&net.Dialer{}).DialContext(ctx, "unix", path)
			return err
		})
		return conn, err
	}}}
}

// Faults lets things go wrong in the sandbox.
func (s *Sandbox) Faults() aws.FaultsClient {
	return aws.FaultsClient{HTTP: s.client(), URL: controlURL}
}

// control makes a request at the daemon, and decodes its answer where one is wanted.
func (s *Sandbox) control(ctx context.Context, method, path string, answer any) error {
	client := s.client()
	request, err := http.NewRequestWithContext(ctx, method, controlURL+path, nil)
	if err != nil {
		return err
	}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("asking the sandbox: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		reason, _ := io.ReadAll(response.Body)
		return fmt.Errorf("the sandbox: %s", strings.TrimSpace(string(reason)))
	}
	if answer == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(answer)
}

// startDaemon gives the daemon its listeners on the host's loopback and follows its steps.
func startDaemon(ctx context.Context, opts Options) (*Sandbox, error) {
	apiServer, apiFile, err := loopback()
	if err != nil {
		return nil, err
	}
	defer apiFile.Close()
	awsAddress, awsFile, err := loopback()
	if err != nil {
		return nil, err
	}
	defer awsFile.Close()
	steps, stepsWriter, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer steps.Close()
	log, err := os.Create(filepath.Join(logDir(opts.Dir), "sandbox.log"))
	if err != nil {
		return nil, err
	}
	defer log.Close()
	s := &Sandbox{
		Dir: opts.Dir, BinDir: opts.BinDir, Kubeconfig: filepath.Join(opts.Dir, "kubeconfig"), Kubelet: opts.Kubelet,
		APIServer: "https://" + apiServer, AWS: "http://" + awsAddress, UserNS: os.Getuid() != 0,
	}
	cmd := exec.Command("/proc/self/exe", "sandbox", "daemon", "--dir", opts.Dir, "--bin-dir", opts.BinDir, "--latency", opts.Latency, "--api-server", s.APIServer,
		"--kubelet", opts.Kubelet, "--layout", opts.Layout, "--images", strings.Join(opts.Images, ","), "--bare="+strconv.FormatBool(opts.Bare), "--values", opts.Values)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{apiFile, awsFile, stepsWriter}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid: true, Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC,
	}
	if s.UserNS {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	if err := cmd.Start(); err != nil {
		stepsWriter.Close()
		if s.UserNS {
			return nil, fmt.Errorf("this kernel grants no user namespaces to ordinary users (%w): run as root, or allow them with `sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000`", err)
		}
		return nil, fmt.Errorf("creating namespaces: %w", err)
	}
	stepsWriter.Close()
	s.PID = cmd.Process.Pid
	if s.Started, err = startTime(s.PID); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = cmd.Process.Kill() })
	defer stop()
	if err := follow(steps, opts.Out); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return nil, fmt.Errorf("%w; see the logs in %s", err, logDir(opts.Dir))
	}
	return s, cmd.Process.Release()
}

// step is a line from the daemon to Up.
type step struct {
	Name    string  `json:"name,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`
	Error   string  `json:"error,omitempty"`
	Ready   bool    `json:"ready,omitempty"`
}

func follow(steps io.Reader, out io.Writer) error {
	lines := bufio.NewScanner(steps)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var s step
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			return err
		}
		switch {
		case s.Error != "":
			return fmt.Errorf("%s: %s", s.Name, s.Error)
		case s.Ready:
			return nil
		default:
			fmt.Fprintf(out, " ✓ %-42s %5.1fs\n", s.Name, s.Seconds)
		}
	}
	return errors.New("the sandbox ended while it started")
}

func loopback() (address string, file *os.File, err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	defer listener.Close()
	file, err = listener.(*net.TCPListener).File()
	return listener.Addr().String(), file, err
}

// lock keeps a second Up off a directory in which one is under way.
func lock(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		file.Close()
		return nil, fmt.Errorf("another `dovetail sandbox up` is under way in %s: %w", dir, err)
	}
	return func() { file.Close() }, nil
}

// Clean removes what a sandbox that was killed left behind, and keeps its logs.
func Clean(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return clear(dir)
}

// clear removes the state of a sandbox that does not run, and keeps its logs.
func clear(dir string) error {
	if err := ami.RemoveCgroups(cgroupOf(dir)); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == "logs" {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, entry.Name())); err != nil {
			return err
		}
	}
	return os.MkdirAll(logDir(dir), 0o755)
}

// startTime of a process, in clock ticks since boot: field 22 of its stat file.
func startTime(pid int) (string, error) {
	content, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return "", err
	}
	_, rest, _ := strings.Cut(string(content), ") ") // the name before it may hold anything
	fields := strings.Fields(rest)
	if len(fields) < 20 || fields[0] == "Z" {
		return "", errors.New("the process has ended")
	}
	return fields[19], nil
}

// atControlSocket names the daemon's socket in a way that fits into the 108 bytes of a socket's address, however long the
// directory's name is.
func atControlSocket(dir string, do func(path string) error) error {
	opened, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer opened.Close()
	return do(fmt.Sprintf("/proc/self/fd/%d/control.sock", opened.Fd()))
}

// cgroupOf a sandbox: the control group that its instances' groups are in.
func cgroupOf(dir string) string {
	return fmt.Sprintf("dovetail-%x", sha256.Sum256([]byte(dir)))[:len("dovetail-")+12]
}

func stateFile(dir string) string { return filepath.Join(dir, "sandbox.json") }
func logDir(dir string) string    { return filepath.Join(dir, "logs") }
