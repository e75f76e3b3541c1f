// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/dovetail-dev/dovetail/pkg/rehearsal"
	"github.com/dovetail-dev/dovetail/pkg/sandbox"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

// rehearse in a sandbox of its own, of which nothing stays.
func (o *rehearseOptions) rehearse(ctx context.Context, progress io.Writer, params rehearsal.Params) (report rehearsal.Report, err error) {
	dir, err := os.MkdirTemp("", "dovetail-rehearsal-")
	if err != nil {
		return report, err
	}
	s, err := sandbox.Up(ctx, sandbox.Options{Dir: dir, BinDir: o.binDir, Latency: o.latency, Kubelet: sandbox.Hollow, Out: progress})
	if err != nil {
		if ctx.Err() != nil {
			return report, errors.Join(ctx.Err(), os.RemoveAll(dir))
		}
		return report, fmt.Errorf("starting a sandbox: %w", err)
	}
	defer func() {
		// Also when it was interrupted.
		downCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		err = errors.Join(err, s.Down(downCtx), os.RemoveAll(dir))
	}()
	config, err := clientcmd.BuildConfigFromFlags("", s.Kubeconfig)
	if err != nil {
		return report, err
	}
	config.QPS = -1 // the stage is ours alone
	kube, err := client.New(config, client.Options{Scheme: scheme.Scheme})
	if err != nil {
		return report, err
	}
	params.Stage = rehearsal.Stage{
		Kube: kube, ClusterName: sandbox.ClusterName, Role: sandbox.NodeRole, VPC: sandbox.VPCID, Latency: o.latency,
		AWS: awssdk.Config{
			Region: sandbox.Region, BaseEndpoint: awssdk.String(s.AWS), Credentials: credentials.NewStaticCredentialsProvider("sandbox", "sandbox", ""),
			// A large VPC is built with more calls than EC2's request buckets hold.
			Retryer: func() awssdk.Retryer {
				return retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.RateLimiter = 30, ratelimit.None })
			},
		},
		Price: func(instanceType string) float64 {
			price, _ := instancetypes.Price(instanceType)
			return price
		},
		PricesFrom: "a list in this program, of " + sandbox.Region + ", on demand",
	}
	return rehearsal.Run(ctx, params)
}
