// SPDX-License-Identifier: Apache-2.0

// Package scenario is Dovetail's main job as its user does it: pending pods become nodes in node subnets, the nodes get
// ENIs in pod subnets, the pods get addresses there and packets flow; then all of it goes away again. The demo prints
// these steps and the end-to-end test asserts them.
//
// It reaches the sandbox only as a user does: through the dovetail binary, a kubeconfig, and AWS SDK clients. What it
// reports was read from the EC2 API, the Kubernetes API, or a program running in a namespace; it compares, and computes
// no figure that it could have asked for.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/eks"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Options say where things are.
type Options struct {
	// Dir is the sandbox's state directory.
	Dir string
	// BinDir holds what `make build` made.
	BinDir string
	// Examples is the folder of the manifests that a user applies.
	Examples string
	// UpFlags are further flags of `dovetail sandbox up`.
	UpFlags []string
}

// Sandbox is a running sandbox and the clients of its user.
type Sandbox struct {
	opts Options
	env  map[string]string

	// Kube talks to the cluster.
	Kube client.WithWatch
	// EC2 talks to the account.
	EC2 *ec2.Client
	eks *eks.Client

	// before is what existed when the sandbox was up and nothing was applied.
	before Inventory
}

// Limits of the measured times, from the project's design.
const (
	LimitUp      = 20 * time.Second
	LimitRunning = 60 * time.Second
	LimitDemo    = 6 * time.Minute
)

// namespace is where the scenario's own objects live.
const namespace = "default"

// pollInterval is short, so that measured times are those of the product and not of the watcher.
const pollInterval = 250 * time.Millisecond

// cleanupDeadline bounds what is undone after a step.
const cleanupDeadline = 2 * time.Minute

// cleanup undoes something also where the step's own context has ended, and joins its error to the step's.
func cleanup(ctx context.Context, err *error, undo func(context.Context) error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupDeadline)
	defer cancel()
	*err = errors.Join(*err, undo(ctx))
}

// until repeats a check until it finds nothing to object to. When the context ends first, the error says what was awaited
// and what was objected to last.
func until(ctx context.Context, what string, check func(context.Context) error) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		err := check(ctx)
		if err == nil {
			return nil
		}
		if ctx.Err() == nil { // an objection, not the end of the wait
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting until %s: %w", what, errors.Join(last, ctx.Err()))
		case <-ticker.C:
		}
	}
}
