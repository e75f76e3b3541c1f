// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/dovetail-dev/dovetail/test/scenario"
)

// container of the suite, in a sandbox of its own.
type container struct {
	options
	name, dir string
	specs     []string
}

// nodePool for a container: the specs of CapacityBuffer count nodes, and expect them to have two CPUs.
func (c container) nodePool() string {
	if c.name == "CapacityBuffer" {
		return "nodepool-2cpu.yaml"
	}
	return "nodepool.yaml"
}

// run returns the results of the specs that ran, by their text, and how many nodes they had. It is no error that some failed.
func (c container) run(ctx context.Context) (results map[string]spec, nodes int, err error) {
	opts := scenario.Options{Dir: filepath.Join(c.dir, "sandbox"), BinDir: c.binDir, Examples: c.examples}
	opts.UpFlags = []string{"--kubelet", c.kubelet, "--values", filepath.Join(c.options.dir, "values.yaml")}
	if err := os.MkdirAll(opts.Dir, 0o700); err != nil {
		return nil, 0, err
	}
	sandbox, _, err := scenario.Up(ctx, opts)
	if sandbox != nil {
		defer func() {
			downCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer cancel()
			err = errors.Join(err, sandbox.Down(downCtx))
		}()
	}
	if err != nil {
		return nil, 0, fmt.Errorf("starting the sandbox: %w", err)
	}
	if _, err := sandbox.Apply(ctx, "Deployment", "NodePool", "EC2NodeClass"); err != nil {
		return nil, 0, err
	}
	report := filepath.Join(c.dir, "report.json")
	var seen fleet
	watching, stop := context.WithCancel(ctx)
	var watched sync.WaitGroup
	watched.Go(func() { seen.watch(watching, sandbox.Kube) })
	err = c.runSuite(ctx, sandbox.Env(), report)
	stop()
	watched.Wait()
	if err != nil {
		return nil, 0, err
	}
	ran, err := readReport(report)
	if err != nil {
		return nil, 0, err
	}
	results = map[string]spec{}
	for _, s := range ran {
		results[s.text] = s
	}
	nodes, err = seen.check()
	return results, nodes, err
}

// runSuite in a process of its own. Its exit status says only what the report says too.
func (c container) runSuite(ctx context.Context, env []string, report string) error {
	log, err := os.Create(filepath.Join(c.dir, "suite.log"))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.CommandContext(ctx, c.suite,
		"-test.timeout=0", "--ginkgo.timeout="+c.deadline.String(), "--ginkgo.grace-period=1m", "--ginkgo.v", "--ginkgo.no-color",
		"--ginkgo.focus="+exactly(c.specs), "--ginkgo.json-report="+report,
		"--default-nodeclass="+filepath.Join(c.options.dir, "nodeclass.yaml"), "--default-nodepool="+filepath.Join(c.options.dir, c.nodePool()))
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = c.dir, append(env, "OUTPUT_DIR="+c.dir), log, log
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 30 * time.Second
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return err
	}
	return ctx.Err()
}

// exactly matches these specs and no others. Ginkgo puts the suite's name before a spec's text.
func exactly(specs []string) string {
	quoted := make([]string, len(specs))
	for i, text := range specs {
		quoted[i] = regexp.QuoteMeta(text)
	}
	return `^\w+ (` + strings.Join(quoted, "|") + `)$`
}
