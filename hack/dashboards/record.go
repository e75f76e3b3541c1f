// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/dovetail-dev/dovetail/charts/monitoring"
)

// patience with a target, where the machine is busy. A round that takes longer than the interval puts the next one off.
const patience = 30 * time.Second

// atOnce are the scrapes side by side: the demo is to have the machine.
const atOnce = 4

// demo is a run of the demo that is scraped.
type demo struct {
	binDir, examples, out string
	interval              time.Duration
	dir                   string // of its sandbox
	over                  bool
}

// record scrapes until the demo takes its pods away, and waits for its end.
func (d *demo) record(ctx context.Context) (err error) {
	if d.binDir, err = filepath.Abs(d.binDir); err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "dovetail-dashboards-"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(d.dir)) }()
	run := exec.CommandContext(ctx, filepath.Join(d.binDir, "demo"), "--bin-dir", d.binDir, "--examples", d.examples, "--dir", d.dir)
	run.Stdout, run.Stderr = os.Stdout, os.Stderr
	run.Cancel = func() error { return run.Process.Signal(syscall.SIGTERM) } // it ends its sandbox
	if err := run.Start(); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- run.Wait() }()
	ticker := time.NewTicker(d.interval)
	defer ticker.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case at := <-ticker.C:
			if d.over = d.over || d.scaledToZero(ctx); d.over {
				continue
			}
			if err := d.scrape(ctx, at); err != nil {
				return errors.Join(err, run.Cancel(), <-ended)
			}
		}
	}
}

// scrape keeps what each controller and agent answers now: a file each, in a folder named by the second. Who does not answer is not
// there yet, or not there any more.
func (d *demo) scrape(ctx context.Context, at time.Time) error {
	targets := map[string][]string{}
	for _, t := range d.targets(ctx) {
		targets[t.pod] = []string{"--instance", t.instance, "--", filepath.Join(d.binDir, "netprobe"), "get", "-timeout", patience.String(), t.url}
	}
	dir := filepath.Join(d.out, strconv.FormatInt(at.Unix(), 10))
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	group := errgroup.Group{}
	group.SetLimit(atOnce)
	for name, args := range targets {
		group.Go(func() error {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			answer, err := exec.CommandContext(ctx, filepath.Join(d.binDir, "dovetail"), append([]string{"sandbox", "exec", "--dir", d.dir}, args...)...).Output()
			if err != nil {
				return nil //nolint:nilerr // see above
			}
			return os.WriteFile(filepath.Join(dir, name+".prom"), monitoring.Ours(answer), 0o644)
		})
	}
	return group.Wait()
}

// target is a pod on its node's network.
type target struct{ pod, instance, url string }

// client of the cluster, nil where there is none yet.
func (d *demo) client() kubernetes.Interface {
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(d.dir, "kubeconfig"))
	if err != nil {
		return nil
	}
	config.Timeout = patience
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil
	}
	return client
}

// scaledToZero is how the demo ends: an empty cluster is no picture.
func (d *demo) scaledToZero(ctx context.Context) bool {
	client := d.client()
	if client == nil {
		return false
	}
	web, err := client.AppsV1().Deployments("default").Get(ctx, "web", metav1.GetOptions{})
	return err == nil && web.Spec.Replicas != nil && *web.Spec.Replicas == 0
}

// targets are the pods of the chart's monitors; none while there is no API server.
func (d *demo) targets(ctx context.Context) (found []target) {
	client := d.client()
	if client == nil {
		return nil
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil
	}
	instances := map[string]string{}
	for _, node := range nodes.Items { // aws:///ZONE/INSTANCE
		instances[node.Name] = node.Spec.ProviderID[strings.LastIndex(node.Spec.ProviderID, "/")+1:]
	}
	pods, err := client.CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component in (controller, agent)"})
	if err != nil {
		return nil
	}
	for _, pod := range pods.Items {
		for _, port := range pod.Spec.Containers[0].Ports {
			if instance := instances[pod.Spec.NodeName]; port.Name == "metrics" && instance != "" {
				found = append(found, target{pod: pod.Name, instance: instance, url: fmt.Sprintf("http://127.0.0.1:%d/metrics", port.ContainerPort)})
			}
		}
	}
	return found
}
