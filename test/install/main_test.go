// SPDX-License-Identifier: Apache-2.0

// Package install_test does what a user does on a new cluster: install the charts with Helm, run pods, upgrade while pods start,
// uninstall. The cluster is a sandbox with real kubelets, and the images are those that ko built. It drives the built
// programs: `make e2e` builds them.
package install_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

// Deadlines end a test that hangs; they are no expectation.
const (
	upDeadline   = 3 * time.Minute
	stepDeadline = 5 * time.Minute
)

var (
	binDir = absolute("../../bin")
	// previousDir has the images and charts of the commit before, which are installed first and upgraded from.
	previousDir = filepath.Join(binDir, "previous")
	// dir of the sandbox and of Helm's own files.
	dir string
	// before is what the host was like without a sandbox.
	before host

	sandbox *scenario.Sandbox
	config  *rest.Config
	client  kubernetes.Interface
)

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	var err error
	if dir, err = os.MkdirTemp("", "dovetail-install-"); err != nil {
		return fail(err)
	}
	if before, err = inspectHost(); err != nil {
		return fail(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), upDeadline)
	defer cancel()
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		down() // the sandbox is a daemon: it would outlive the test
		os.Exit(1)
	}()
	defer down()
	if err := up(ctx, previousDir); err != nil {
		return fail(err)
	}
	code := m.Run()
	down()
	if code == 0 {
		_ = os.RemoveAll(dir) // what stays is in a temporary directory
	}
	return code
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// up starts a cluster without Dovetail, whose nodes have the images of a folder, and connects to it.
func up(ctx context.Context, images string) error {
	var took time.Duration
	var err error
	sandbox, took, err = scenario.Up(ctx, scenario.Options{
		Dir: dir, BinDir: binDir, Examples: "../../examples", UpFlags: []string{"--kubelet", "real", "--bare", "--images", filepath.Join(images, "images.tar")},
	})
	if err != nil {
		return fmt.Errorf("starting the sandbox: %w", err)
	}
	fmt.Printf("sandbox up after %.1fs, logs in %s\n", took.Seconds(), dir)
	if config, err = clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "kubeconfig")); err != nil {
		return err
	}
	client, err = kubernetes.NewForConfig(config)
	return err
}

func down() {
	if sandbox == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := sandbox.Down(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// step runs a subtest within a deadline. What was there when it failed goes to the log.
func step(t *testing.T, name string, run func(context.Context, *testing.T)) {
	t.Helper()
	ok := t.Run(name, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), stepDeadline)
		defer cancel()
		t.Cleanup(func() {
			if t.Failed() {
				t.Log(sandbox.Diagnose(context.Background()))
			}
		})
		run(ctx, t)
	})
	if !ok {
		t.FailNow() // each step stands on those before
	}
}

// helm runs Helm with a home of its own.
func helm(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, filepath.Join(binDir, "tools", "helm"), args...)
	cmd.Env = append(sandbox.Env(), "HOME="+dir, "HELM_CACHE_HOME="+dir+"/helm", "HELM_CONFIG_HOME="+dir+"/helm", "HELM_DATA_HOME="+dir+"/helm")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("helm %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return string(out), nil
}

func absolute(path string) string {
	path, err := filepath.Abs(path)
	if err != nil {
		panic(err)
	}
	return path
}
