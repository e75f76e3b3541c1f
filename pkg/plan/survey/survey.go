// SPDX-License-Identifier: Apache-2.0

// Package survey reads the facts of a plan: from the cluster's API and from EC2, with nothing but read rights. What it may not or
// cannot read it says, and goes on.
package survey

import (
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"sigs.k8s.io/controller-runtime/pkg/client"

	eniconfig "github.com/aws/amazon-vpc-cni-k8s/pkg/apis/crd/v1alpha1"

	"github.com/dovetail-dev/dovetail/pkg/apis/v1alpha1"
	"github.com/dovetail-dev/dovetail/pkg/plan"
)

// Params of a survey.
type Params struct {
	// Cluster, and the address that it is known by.
	Cluster client.Client
	Host    string
	// Name of the PodNetwork to plan for, "" for the only one, or for a proposal where there is none.
	Name string
	// Declared objects of a file stand for the cluster's own of that name.
	Declared Declared
	// AWS loads the SDK's configuration for a Region, "" for the default one.
	AWS func(ctx context.Context, region string) (aws.Config, error)
	// InstanceTypes stand for EC2's where EC2 cannot be read. PricesFrom says of what date and Region their prices are.
	InstanceTypes func() []plan.InstanceType
	PricesFrom    string
	ReservedENIs  int
	// ClusterName is what AWS's tags call the cluster; "" to find it.
	ClusterName string
}

// Declared objects, not yet applied.
type Declared struct {
	// File that they are from.
	File       string
	Network    *v1alpha1.PodNetwork
	ENIConfigs []eniconfig.ENIConfig
}

// Read the facts. It fails where the cluster does not answer, or has no such PodNetwork.
func Read(ctx context.Context, params Params) (plan.Facts, error) {
	s := &surveyor{Params: params, facts: plan.Facts{Cluster: params.Host, ReservedENIs: params.ReservedENIs}}
	s.facts.Quotas.ENIs, s.facts.Quotas.BlocksPerVPC = plan.Quota{Limit: plan.DefaultENIs, Assumed: true, Used: -1}, plan.Quota{Limit: plan.DefaultBlocksPerVPC, Assumed: true, Used: -1}
	if err := s.readCluster(ctx); err != nil {
		return s.facts, err
	}
	if err := s.choose(); err != nil {
		return s.facts, err
	}
	if err := s.readAWS(ctx); err != nil {
		s.unread("EC2: the VPC, its subnets and prices", "", err)
	}
	if len(s.facts.InstanceTypes) == 0 && s.InstanceTypes != nil {
		s.facts.InstanceTypes, s.facts.PricesFrom = s.InstanceTypes(), s.PricesFrom
	}
	slices.SortFunc(s.facts.Unread, func(a, b plan.Unread) int { return strings.Compare(a.What, b.What) })
	return s.facts, ctx.Err()
}

type surveyor struct {
	Params
	facts plan.Facts
	// found PodNetworks of the cluster.
	found []v1alpha1.PodNetwork
	mu    sync.Mutex // of facts, while parts of EC2 are read at once
}
