// SPDX-License-Identifier: Apache-2.0

// Package process runs the sandbox's child processes: each has a log file, ends when its parent ends, and tells when
// it ended.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Params of a process.
type Params struct {
	Name   string // in messages, and of the log file
	Path   string
	Args   []string
	Env    []string // nil: the environment of this process
	Dir    string   // working directory; "": that of this process
	LogDir string   // standard output and error go to LogDir/Name.log; it is appended to
	Attr   *syscall.SysProcAttr
	Files  []*os.File // further file descriptors of the child, from 3 up
}

// Process is a started child.
type Process struct {
	name    string
	logPath string
	cmd     *exec.Cmd
	done    chan struct{}
	err     error // valid when done is closed
}

// Start starts a process.
func Start(p Params) (*Process, error) {
	logPath := filepath.Join(p.LogDir, p.Name+".log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("log of %s: %w", p.Name, err)
	}
	defer log.Close()
	cmd := exec.Command(p.Path, p.Args...)
	cmd.Env, cmd.Dir, cmd.ExtraFiles = p.Env, p.Dir, p.Files
	cmd.Stdout, cmd.Stderr = log, log
	attr := syscall.SysProcAttr{}
	if p.Attr != nil {
		attr = *p.Attr
	}
	attr.Pdeathsig = syscall.SIGKILL
	cmd.SysProcAttr = &attr

	proc := &Process{name: p.Name, logPath: logPath, cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		// Pdeathsig is sent when the thread that forked ends, so that thread is kept for as long as the child lives
		// (golang/go#27505).
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := cmd.Start(); err != nil {
			started <- err
			return
		}
		started <- nil
		proc.err = cmd.Wait()
		close(proc.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	return proc, nil
}

// PID of the process.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says why the process ended, with the last lines of its log. It is valid after Done.
func (p *Process) Err() error {
	reason := "ended"
	if p.err != nil {
		reason = p.err.Error()
	}
	return fmt.Errorf("%s: %s; the end of %s:\n%s", p.name, reason, p.logPath, tail(p.logPath, 5))
}

// Stop asks the process to end, kills it when it has not ended within the grace period, and waits for its end.
func (p *Process) Stop(grace time.Duration) {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-p.done:
		return
	case <-timer.C:
	}
	p.Kill()
}

// Kill ends the process and waits for its end.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// Pause lets the process stand still until Resume, and returns when it does. Its connections stay open.
func (p *Process) Pause() error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for {
		err := unix.Waitid(unix.P_PID, p.PID(), nil, unix.WSTOPPED|unix.WNOWAIT, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("waiting until %s stands still: %w", p.name, err)
		default:
			return nil
		}
	}
}

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("signal to %s: %w", p.name, err)
	}
	return nil
}

// ErrMissing says that a program is not where it should be.
var ErrMissing = errors.New("program is missing")

// Find returns the path of a program in dir.
func Find(dir, name string) (string, error) {
	path := filepath.Join(dir, name)
	if info, err := os.Stat(path); err != nil || info.IsDir() {
		return "", fmt.Errorf("%w: %s is not in %s", ErrMissing, name, dir)
	}
	return path, nil
}

// WaitReady calls ready until it answers nil, the process ends or the context does.
func (p *Process) WaitReady(ctx context.Context, ready func(context.Context) error) error {
	// The programs that are waited for offer no event for their readiness, only an address to ask.
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.done:
			return p.Err()
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready: %w; see %s", p.name, err, p.logPath)
		case <-ticker.C:
		}
	}
}

func tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
