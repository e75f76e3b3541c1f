// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"net/http"
	"strings"
)

// apiError is an error of a service, as it goes over the wire.
type apiError struct {
	code, message string
	status        int // HTTP
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

// clientError has HTTP status 400, as nearly all of EC2's errors.
func clientError(code, format string, args ...any) *apiError {
	return &apiError{code: code, message: fmt.Sprintf(format, args...), status: http.StatusBadRequest}
}

func statusError(status int, code, format string, args ...any) *apiError {
	return &apiError{code: code, message: fmt.Sprintf(format, args...), status: status}
}

var (
	errDryRun = statusError(http.StatusPreconditionFailed, "DryRunOperation",
		"Request would have succeeded, but DryRun flag is set.")
	// EC2 answers throttling with 503, though the code counts as the client's (amazon-vpc-cni-k8s#405).
	errRequestLimit = statusError(http.StatusServiceUnavailable, "RequestLimitExceeded", "Request limit exceeded.")

	errSubnetAddresses = clientError("InsufficientFreeAddressesInSubnet",
		"The specified subnet does not have enough free addresses to satisfy the request.")
	// Enough addresses, but no aligned free /28 (cilium#31016).
	errSubnetFragmented = clientError("InsufficientCidrBlocks",
		"The specified subnet does not have enough free cidr blocks to satisfy the request.")
	// Too full for the number of prefixes asked for, whatever their alignment (cilium#31016).
	errSubnetFull = clientError("InvalidParameterValue", "There aren't sufficient free Ipv4 addresses or prefixes")
)

func notSimulated(format string, args ...any) *apiError {
	return clientError("UnsupportedOperation", "The sandbox does not simulate "+format, args...)
}

func missingParameter(name string) *apiError {
	return clientError("MissingParameter", "The request must contain the parameter %s", name)
}

func invalidValue(value, parameter string) *apiError {
	return clientError("InvalidParameterValue", "Value (%s) for parameter %s is invalid.", value, parameter)
}

// errDependencies refuses to delete what something else needs.
func errDependencies(resource, id string) *apiError {
	return clientError("DependencyViolation", "The %s '%s' has dependencies and cannot be deleted.", resource, id)
}

// kind is a sort of EC2 resource, for the errors about its ids.
type kind struct {
	prefix   string // "subnet" in subnet-0ab...
	notFound string
	// malformed is the code for ids of another shape; EC2's codes differ in case from resource to resource.
	malformed string
	text      string // "The %s does not exist" with the id
}

var (
	kindInstance    = kind{"i", "InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed", "The instance ID '%s' does not exist"}
	kindInterface   = kind{"eni", "InvalidNetworkInterfaceID.NotFound", "InvalidNetworkInterfaceId.Malformed", "The networkInterface ID '%s' does not exist"}
	kindAttachment  = kind{"eni-attach", "InvalidAttachmentID.NotFound", "InvalidAttachmentID.Malformed", "The network interface attachment ID '%s' does not exist"}
	kindSubnet      = kind{"subnet", "InvalidSubnetID.NotFound", "InvalidSubnetID.Malformed", "The subnet ID '%s' does not exist"}
	kindVPC         = kind{"vpc", "InvalidVpcID.NotFound", "InvalidVpcID.Malformed", "The vpc ID '%s' does not exist"}
	kindGroup       = kind{"sg", "InvalidGroup.NotFound", "InvalidGroupId.Malformed", "The security group '%s' does not exist"}
	kindRouteTable  = kind{"rtb", "InvalidRouteTableID.NotFound", "InvalidRouteTableId.Malformed", "The routeTable ID '%s' does not exist"}
	kindPeering     = kind{"pcx", "InvalidVpcPeeringConnectionID.NotFound", "InvalidVpcPeeringConnectionId.Malformed", "The vpcPeeringConnection ID '%s' does not exist"}
	kindGateway     = kind{"igw", "InvalidInternetGatewayID.NotFound", "InvalidInternetGatewayId.Malformed", "The internetGateway ID '%s' does not exist"}
	kindNAT         = kind{"nat", "NatGatewayNotFound", "NatGatewayMalformed", "NatGateway %s was not found"}
	kindAddress     = kind{"eipalloc", "InvalidAllocationID.NotFound", "InvalidAllocationID.Malformed", "The allocation ID '%s' does not exist"}
	kindReservation = kind{"scr", "InvalidSubnetCidrReservationID.NotFound", "InvalidSubnetCidrReservationId.Malformed", "The SubnetCidrReservation ID '%s' does not exist"}
	kindTemplate    = kind{"lt", "InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateId.Malformed", "The specified launch template, with template ID %s, does not exist."}
	kindImage       = kind{"ami", "InvalidAMIID.NotFound", "InvalidAMIID.Malformed", "The image id '[%s]' does not exist"}
	kindCapacity    = kind{"cr", "InvalidCapacityReservationId.NotFound", "InvalidCapacityReservationId.Malformed", "The capacity reservation ID '%s' does not exist"}
	kindPlacement   = kind{"pg", "InvalidPlacementGroupId.NotFound", "InvalidPlacementGroupId.Malformed", "The placement group ID '%s' does not exist"}

	kindTransitGateway    = kind{"tgw", "InvalidTransitGatewayID.NotFound", "InvalidTransitGatewayID.Malformed", "Transit Gateway %s was deleted or does not exist."}
	kindTransitAttachment = kind{"tgw-attach", "InvalidTransitGatewayAttachmentID.NotFound", "InvalidTransitGatewayAttachmentID.Malformed", "Transit Gateway Attachment %s was deleted or does not exist."}
	kindTransitTable      = kind{"tgw-rtb", "InvalidRouteTableID.NotFound", "InvalidRouteTableId.Malformed", "Transit Gateway Route Table %s was deleted or does not exist."}

	taggableKinds = []kind{
		kindInstance, kindInterface, kindSubnet, kindVPC, kindGroup, kindRule, kindRouteTable, kindGateway, kindNAT, kindPeering, kindAddress, kindReservation, kindTemplate,
		kindCapacity, kindPlacement, kindTransitGateway, kindTransitAttachment, kindTransitTable,
	}
	kindAssociation = kind{"rtbassoc", "InvalidAssociationID.NotFound", "InvalidAssociationID.Malformed", "The association ID '%s' does not exist"}
	kindBlock       = kind{"vpc-cidr-assoc", "InvalidVpcCidrBlockAssociationID.NotFound", "InvalidVpcCidrBlockAssociationId.Malformed", "The vpc CIDR block association ID '%s' does not exist"}
	kindRule        = kind{"sgr", "InvalidSecurityGroupRuleId.NotFound", "InvalidSecurityGroupRuleId.Malformed", "The security group rule ID '%s' does not exist"}
)

// missing returns the error for ids that name nothing: malformed ones first, else not found. EC2 names all of them,
// as in "The instance IDs 'i-1, i-2' do not exist" (aws-plugin-for-slurm#16).
func (k kind) missing(ids ...string) *apiError {
	for _, id := range ids {
		if !wellFormed(k.prefix, id) {
			return clientError(k.malformed, "Invalid id: %q", id)
		}
	}
	if len(ids) == 1 {
		return clientError(k.notFound, k.text, ids[0])
	}
	text := strings.Replace(k.text, "ID '", "IDs '", 1)
	text = strings.Replace(text, "does not exist", "do not exist", 1)
	return clientError(k.notFound, text, strings.Join(ids, ", "))
}
