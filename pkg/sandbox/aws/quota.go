// SPDX-License-Identifier: Apache-2.0

package aws

import (
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// Quotas of the account in the Region.
type Quotas struct {
	Interfaces      int // default 5,000
	LaunchTemplates int // default 5,000
	// VCPUs of instances that are not stopped or terminated, on demand and of spot. 0: no limit. EC2 counts groups of families
	// apart; here all families count together.
	OnDemandVCPUs, SpotVCPUs int
}

// withDefaults returns EC2's default quotas where none is set.
func (q Quotas) withDefaults() Quotas {
	if q.Interfaces == 0 {
		q.Interfaces = 5000
	}
	if q.LaunchTemplates == 0 {
		q.LaunchTemplates = 5000
	}
	return q
}

// checkVCPUs tells whether one more instance is within the quota. An instance that shuts down still counts, and one that is terminated
// counts for a while ("Eventual consistency in the Amazon EC2 API").
func (r *request) checkVCPUs(p *launchPlan) error {
	limit := r.quotas.OnDemandVCPUs
	if p.spot {
		limit = r.quotas.SpotVCPUs
	}
	if limit == 0 {
		return nil
	}
	used := vcpus(p.info)
	for _, i := range r.instances.all() {
		switch {
		case i.state == ec2types.InstanceStateNameStopped:
		case i.state == ec2types.InstanceStateNameTerminated && !r.now.Before(i.countsUntil):
		default:
			if (i.spotRequest != "") == p.spot {
				used += vcpus(i.info)
			}
		}
	}
	switch {
	case used <= limit:
		return nil
	case p.spot:
		return errSpotCount()
	}
	return errVCPUs(limit)
}

func errSpotCount() error {
	return clientError("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
}

func errVCPUs(limit int) error {
	return clientError("VcpuLimitExceeded",
		"You have requested more vCPU capacity than your current vCPU limit of %d allows for the instance bucket that the specified instance type belongs to. Please visit http://aws.amazon.com/contact-us/ec2-request to request an adjustment to this limit.", limit)
}

func vcpus(info ec2types.InstanceTypeInfo) int {
	return int(awssdk.ToInt32(info.VCpuInfo.DefaultVCpus))
}
