// SPDX-License-Identifier: Apache-2.0

package eni

import (
	"errors"
	"strings"

	"github.com/aws/smithy-go"
)

// Reason classifies what EC2 answered; it is the reason of events.
type Reason string

// Reasons.
const (
	// NoFreePrefix: the subnet has addresses and no aligned /28.
	NoFreePrefix Reason = "NoFreePrefix"
	// SubnetFull: the subnet has too few addresses for the request.
	SubnetFull Reason = "PodSubnetFull"
	// SubnetMissing: there is no such subnet.
	SubnetMissing Reason = "PodSubnetNotFound"
	// WrongZone: the subnet is in another zone than the instance.
	WrongZone Reason = "PodSubnetInOtherZone"
	// GroupMissing: there is no such security group, or it is of another VPC.
	GroupMissing Reason = "SecurityGroupNotUsable"
	// AttachmentLimit: the instance takes no further ENI.
	AttachmentLimit Reason = "AttachmentLimitExceeded"
	// AddressLimit: the ENI takes no further address.
	AddressLimit Reason = "AddressLimitExceeded"
	// IndexTaken: another ENI is attached at this device index.
	IndexTaken Reason = "DeviceIndexTaken"
	// Throttled: too many requests.
	Throttled Reason = "Throttled"
	// Unauthorized: the node's role lacks a right.
	Unauthorized Reason = "MissingIAMPermissions"
	// Failed: anything else.
	Failed Reason = "EC2RequestFailed"
)

// byCode holds the codes that mean one thing.
var byCode = map[string]Reason{
	"InsufficientCidrBlocks":                  NoFreePrefix,
	"InsufficientFreeAddressesInSubnet":       SubnetFull,
	"InvalidSubnetID.NotFound":                SubnetMissing,
	"InvalidSubnet.Malformed":                 SubnetMissing,
	"InvalidSubnetID.Malformed":               SubnetMissing,
	"InvalidGroup.NotFound":                   GroupMissing,
	"InvalidSecurityGroupID.NotFound":         GroupMissing,
	"InvalidGroupId.Malformed":                GroupMissing,
	"AttachmentLimitExceeded":                 AttachmentLimit,
	"PrivateIpAddressLimitExceeded":           AddressLimit,
	"InvalidInterface.IpAddressLimitExceeded": AddressLimit,
	"RequestLimitExceeded":                    Throttled,
	"Throttling":                              Throttled,
	"UnauthorizedOperation":                   Unauthorized,
	"AuthFailure":                             Unauthorized,
}

// byText tells apart what EC2 says with the codes InvalidParameterValue, InvalidParameter and InvalidParameterCombination. It is
// the only place that looks at a message (amazon-vpc-cni-k8s #3105, cilium #31016).
var byText = []struct {
	text   string
	reason Reason
}{
	{"sufficient free Ipv4 addresses or prefixes", SubnetFull},
	{"already has an interface attached at device index", IndexTaken},
	{"not in the same availability zone", WrongZone},
	{"belong to different networks", GroupMissing},
}

// Classify finds the reason of an error from EC2.
func Classify(err error) Reason {
	var api smithy.APIError
	if !errors.As(err, &api) {
		return Failed
	}
	if reason, ok := byCode[api.ErrorCode()]; ok {
		return reason
	}
	if strings.HasPrefix(api.ErrorCode(), "InvalidParameter") {
		for _, known := range byText {
			if strings.Contains(api.ErrorMessage(), known.text) {
				return known.reason
			}
		}
	}
	return Failed
}
