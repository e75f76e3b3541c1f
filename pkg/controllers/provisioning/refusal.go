// SPDX-License-Identifier: Apache-2.0

package provisioning

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/aws/smithy-go"

	"github.com/dovetail-dev/dovetail/pkg/agent/eni"
	"github.com/dovetail-dev/dovetail/pkg/podnetwork"
)

// Reasons of the condition Provisioned, besides those of pkg/provision.
const (
	ReasonProvisioned     = "Provisioned"
	ReasonProvisioning    = podnetwork.ReasonProvisioning
	ReasonDeleting        = "Deleting"
	ReasonInUse           = "InUse"
	ReasonNoNodeClass     = "NoNodeClass"
	ReasonSeveralVPCs     = "NodeClassesInSeveralVPCs"
	ReasonVPCChanged      = "VPCChanged"
	ReasonInvalid         = "InvalidSpec"
	ReasonSelector        = "ENIConfigSelectorNotUsable"
	ReasonThrottled       = "Throttled"
	ReasonUnauthorized    = "MissingIAMPermissions"
	ReasonCIDRQuota       = "CIDRQuotaExceeded"
	ReasonSubnetQuota     = "SubnetQuotaExceeded"
	ReasonCIDRRefused     = "CIDRRefused"
	ReasonSubnetRefused   = "SubnetRefused"
	ReasonTagQuota        = "TagQuotaExceeded"
	ReasonRequestFailed   = "EC2RequestFailed"
	reasonNotKnownYet     = "NotKnownYet"
	reasonChangedMeantime = "ChangedMeanwhile"
)

// callError is what came of a call of EC2.
type callError struct {
	call string // as IAM names it
	err  error
}

func (e *callError) Error() string { return e.call + ": " + e.err.Error() }
func (e *callError) Unwrap() error { return e.err }

func called(call string, err error) error {
	if err == nil {
		return nil
	}
	return &callError{call: call, err: err}
}

// refusal of EC2, with those in a row before it.
type refusal struct {
	until      time.Time
	pause      time.Duration
	generation int64
	reason     string
	message    string
	// inARow counts refusals since the last round without one.
	inARow int
}

// kinds of refusals by EC2's code, with what a person can do.
var kinds = map[string]struct{ reason, todo string }{
	"InvalidSubnetID.NotFound":              {reasonNotKnownYet, ""},
	"InvalidSubnet.Conflict":                {reasonChangedMeantime, "another subnet has its range: see the VPC's subnets"},
	"Resource.AlreadyAssociated":            {reasonChangedMeantime, "another route table was associated with the subnet"},
	"InvalidSubnetCidrReservation.Conflict": {reasonChangedMeantime, "another CIDR reservation overlaps"},
	"InvalidVpc.Range":                      {reasonChangedMeantime, "the range overlaps one of the VPC or of its peers, or AWS restricts it: declare another"},
	"IncorrectState":                        {reasonChangedMeantime, "a peering connection or an association of the VPC is in the way: finish or delete it"},
	"InvalidVpcRange":                       {ReasonCIDRRefused, "declare another range"},
	"CidrLimitExceeded":                     {ReasonCIDRQuota, "raise the account's quota of IPv4 CIDR blocks per VPC, or declare fewer and larger ones"},
	"SubnetLimitExceeded":                   {ReasonSubnetQuota, "raise the account's quota of subnets per VPC"},
	"InvalidSubnet.Range":                   {ReasonSubnetRefused, "the range is not in an associated block of the VPC"},
	"TagLimitExceeded":                      {ReasonTagQuota, "a resource takes 50 tags"},
	"InvalidRouteTableID.NotFound":          {reasonChangedMeantime, "the route table is gone: name another"},
	"RequestLimitExceeded":                  {ReasonThrottled, "it is tried again"},
	"Throttling":                            {ReasonThrottled, "it is tried again"},
	"UnauthorizedOperation":                 {ReasonUnauthorized, "allow the controller's IAM role this action (iam/policies/controller-provision.json has them all)"},
	"AuthFailure":                           {ReasonUnauthorized, "allow the controller's IAM role this action (iam/policies/controller-provision.json has them all)"},
}

// rereads are the reasons after which the VPC is not as it was read.
var rereads = []string{reasonChangedMeantime}

// patience is how many refusals in a row pass for EC2's being late: a new thing is unknown to a part of it, or a change unseen.
const patience = 4

// again is the refusal after this one.
func (r refusal) again(now time.Time, generation int64, failed *callError) refusal {
	next := refusal{
		pause: min(max(2*r.pause, firstPause), lastPause), generation: generation, inARow: r.inARow + 1,
		reason: ReasonRequestFailed, message: fmt.Sprintf("%s: %s", failed.call, eni.Brief(failed.err)),
	}
	var api smithy.APIError
	if errors.As(failed.err, &api) {
		if known, ok := kinds[api.ErrorCode()]; ok {
			next.reason = known.reason
			if known.todo != "" {
				next.message += "; " + known.todo
			}
		}
	}
	if late := slices.Contains([]string{reasonNotKnownYet, reasonChangedMeantime}, next.reason); late && next.inARow > patience {
		next.reason = ReasonRequestFailed
		if failed.call == "ec2:AssociateVpcCidrBlock" {
			next.reason = ReasonCIDRRefused
		}
	}
	next.until = now.Add(next.pause)
	return next
}

// transient refusals pass by themselves.
func (r refusal) transient() bool {
	return r.reason == reasonNotKnownYet || r.reason == reasonChangedMeantime
}
