// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/shlex"
)

// programs are what the scenario and the sandbox run.
var programs = []string{
	"dovetail", "controller", "agent", "cni", "netprobe", "portmap",
	"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler",
}

// terminateGrace is how long a program gets to end after SIGTERM.
const terminateGrace = 10 * time.Second

// Up starts the sandbox and returns how long that took.
func Up(ctx context.Context, opts Options) (*Sandbox, time.Duration, error) {
	for _, path := range []*string{&opts.Dir, &opts.BinDir, &opts.Examples} {
		absolute, err := filepath.Abs(*path)
		if err != nil {
			return nil, 0, err
		}
		*path = absolute
	}
	for _, name := range programs {
		if _, err := os.Stat(filepath.Join(opts.BinDir, name)); err != nil {
			return nil, 0, fmt.Errorf("%s is not built: run 'make build controlplane' first: %w", name, err)
		}
	}
	s := &Sandbox{opts: opts}
	start := time.Now()
	if _, err := s.dovetail(ctx, append([]string{"sandbox", "up", "--dir", opts.Dir, "--bin-dir", opts.BinDir}, opts.UpFlags...)...); err != nil {
		return s, 0, err
	}
	took := time.Since(start)
	if err := s.connect(ctx); err != nil {
		return s, took, err
	}
	return s, took, s.Remember(ctx)
}

// Remember takes what exists now for what is to be left at the end.
func (s *Sandbox) Remember(ctx context.Context) (err error) {
	s.before, err = s.inventory(ctx)
	return err
}

// Env of programs that are to use the sandbox.
func (s *Sandbox) Env() []string {
	env := os.Environ()
	for key, value := range s.env {
		env = append(env, key+"="+value)
	}
	return env
}

// Dovetail runs `dovetail sandbox VERB` and returns what it printed.
func (s *Sandbox) Dovetail(ctx context.Context, verb string, args ...string) (string, error) {
	return s.dovetail(ctx, append([]string{"sandbox", verb, "--dir", s.opts.Dir}, args...)...)
}

// Kubectl runs `kubectl dovetail ARGS` as a user of the cluster and of the account does, and returns what it printed.
func (s *Sandbox) Kubectl(ctx context.Context, args ...string) (string, error) {
	return s.output(ctx, s.command(ctx, args...), s.Env())
}

// Down stops the sandbox and removes all it made but its state directory.
func (s *Sandbox) Down(ctx context.Context) error {
	_, err := s.dovetail(ctx, "sandbox", "down", "--dir", s.opts.Dir)
	return err
}

// readEnv asks the sandbox for the variables that its user's shell would take.
func (s *Sandbox) readEnv(ctx context.Context) error {
	out, err := s.dovetail(ctx, "sandbox", "env", "--dir", s.opts.Dir)
	if err != nil {
		return err
	}
	s.env = map[string]string{}
	for line := range strings.Lines(out) {
		words, err := shlex.Split(line)
		if err != nil {
			return fmt.Errorf("sandbox env: %q: %w", line, err)
		}
		for _, word := range words {
			if key, value, ok := strings.Cut(word, "="); ok {
				s.env[key] = value
			}
		}
	}
	return nil
}

// OnNode runs a command in an instance's namespaces.
func (s *Sandbox) OnNode(ctx context.Context, instanceID string, command ...string) (string, error) {
	return s.dovetail(ctx, s.exec("--instance", instanceID, command)...)
}

// InPod runs a command in the network namespace of a pod.
func (s *Sandbox) InPod(ctx context.Context, pod string, command ...string) (string, error) {
	return s.dovetail(ctx, s.exec("--pod", namespace+"/"+pod, command)...)
}

// netprobe is the command line of netprobe for OnNode and InPod.
func (s *Sandbox) netprobe(args ...string) []string {
	return append([]string{filepath.Join(s.opts.BinDir, "netprobe")}, args...)
}

func (s *Sandbox) exec(kind, where string, command []string) []string {
	return append([]string{"sandbox", "exec", "--dir", s.opts.Dir, kind, where, "--"}, command...)
}

// dovetail runs the binary and returns what it printed.
func (s *Sandbox) dovetail(ctx context.Context, args ...string) (string, error) {
	return s.output(ctx, s.command(ctx, args...), nil)
}

// output runs a command in an environment, nil for the caller's, and returns what it printed.
func (s *Sandbox) output(ctx context.Context, cmd *exec.Cmd, env []string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr, cmd.Env = &stdout, &stderr, env
	if err := cmd.Run(); err != nil {
		return stdout.String(), &CommandError{Args: cmd.Args[1:], Output: strings.TrimSpace(stderr.String()), Err: errors.Join(err, ctx.Err())}
	}
	return stdout.String(), nil
}

func (s *Sandbox) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.opts.BinDir, "dovetail"), args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = terminateGrace
	return cmd
}

// CommandError is a run of the dovetail binary, or of a command inside the sandbox, that failed.
type CommandError struct {
	Args   []string
	Output string // of standard error
	Err    error
}

// longestArg is what an error shows of an argument: certificates are among them.
const longestArg = 80

func (e *CommandError) Error() string {
	var command strings.Builder
	for _, arg := range e.Args {
		if len(arg) > longestArg {
			arg = arg[:longestArg] + "…"
		}
		command.WriteString(" " + arg)
	}
	return fmt.Sprintf("dovetail%s: %v\n%s", command.String(), e.Err, e.Output)
}

// ExitCode of the program, -1 where it did not end by itself.
func (e *CommandError) ExitCode() int {
	var exit *exec.ExitError
	if errors.As(e.Err, &exit) {
		return exit.ExitCode()
	}
	return -1
}

func (e *CommandError) Unwrap() error { return e.Err }
