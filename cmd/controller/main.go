// SPDX-License-Identifier: Apache-2.0

// The controller is Karpenter for AWS that knows where pods get their addresses.
package main

import (
	"os"

	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/controller-runtime/pkg/log"
	coreoperator "sigs.k8s.io/karpenter/pkg/operator"

	"github.com/dovetail-dev/dovetail/pkg/apis"
	"github.com/dovetail-dev/dovetail/pkg/operator"
	"github.com/dovetail-dev/dovetail/pkg/version"
)

func main() {
	if version.Asked(os.Args[1:], os.Stdout) {
		return
	}
	apis.Register(scheme.Scheme)
	ctx, core := coreoperator.NewOperator()
	log.FromContext(ctx).Info("starting", "version", version.Get().String())
	op, err := operator.New(ctx, core)
	if err != nil {
		log.FromContext(ctx).Error(err, "starting")
		os.Exit(1)
	}
	op.WithControllers(ctx, op.Controllers(ctx)...).Start(ctx)
}
