// SPDX-License-Identifier: Apache-2.0

package aws

import (
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// metadataOptions say how an instance reaches its metadata.
type metadataOptions struct {
	disabled       bool
	tokensOptional bool  // version 1 answers too
	hopLimit       int32 // of the reply that carries a token
}

// defaultMetadataOptions are those of images that say ImdsSupport v2.0, as all of the catalogue do.
func defaultMetadataOptions() metadataOptions { return metadataOptions{hopLimit: 2} }

const maxHopLimit = 64

// metadataRequest is the part of a request about metadata options: launch templates, launches and modifications spell it alike.
type metadataRequest struct {
	endpoint, ipv6, tokens, tags string
	hopLimit                     *int32
}

// apply returns the options with what a request asks for.
func (o metadataOptions) apply(m metadataRequest) (metadataOptions, error) {
	switch m.endpoint {
	case "":
	case "enabled", "disabled":
		o.disabled = m.endpoint == "disabled"
	default:
		return o, invalidValue(m.endpoint, "HttpEndpoint")
	}
	switch m.tokens {
	case "":
	case "required", "optional":
		o.tokensOptional = m.tokens == "optional"
	default:
		return o, invalidValue(m.tokens, "HttpTokens")
	}
	if m.ipv6 != "" && m.ipv6 != "disabled" {
		return o, notSimulated("the IPv6 endpoint of IMDS")
	}
	if m.tags != "" && m.tags != "disabled" {
		return o, notSimulated("instance tags in IMDS")
	}
	if m.hopLimit != nil {
		if *m.hopLimit < 1 || *m.hopLimit > maxHopLimit {
			return o, clientError("InvalidParameterValue",
				"Value (%d) for parameter HttpPutResponseHopLimit is invalid. The value must be between 1 and %d.", *m.hopLimit, maxHopLimit)
		}
		o.hopLimit = *m.hopLimit
	}
	return o, nil
}

func (r *request) modifyMetadataOptions(in *ec2.ModifyInstanceMetadataOptionsInput) (*ec2.ModifyInstanceMetadataOptionsOutput, error) {
	i, err := r.knownOne(in.InstanceId)
	if err != nil {
		return nil, err
	}
	if i.state == ec2types.InstanceStateNameTerminated {
		return nil, clientError("IncorrectInstanceState", "The instance '%s' is in the state '%s'", i.id, i.state)
	}
	options, err := i.metadata.apply(metadataRequest{
		endpoint: string(in.HttpEndpoint), ipv6: string(in.HttpProtocolIpv6), tokens: string(in.HttpTokens), tags: string(in.InstanceMetadataTags),
		hopLimit: in.HttpPutResponseHopLimit,
	})
	if err != nil {
		return nil, err
	}
	if err := r.act(); err != nil {
		return nil, err
	}
	i.metadata = options
	description := describeMetadataOptions(options)
	description.State = ec2types.InstanceMetadataOptionsStatePending
	return &ec2.ModifyInstanceMetadataOptionsOutput{InstanceId: &i.id, InstanceMetadataOptions: description}, nil
}

func describeMetadataOptions(o metadataOptions) *ec2types.InstanceMetadataOptionsResponse {
	d := &ec2types.InstanceMetadataOptionsResponse{
		HttpEndpoint: ec2types.InstanceMetadataEndpointStateEnabled, HttpTokens: ec2types.HttpTokensStateRequired,
		HttpPutResponseHopLimit: awssdk.Int32(o.hopLimit), State: ec2types.InstanceMetadataOptionsStateApplied,
		HttpProtocolIpv6: ec2types.InstanceMetadataProtocolStateDisabled, InstanceMetadataTags: ec2types.InstanceMetadataTagsStateDisabled,
	}
	if o.disabled {
		d.HttpEndpoint = ec2types.InstanceMetadataEndpointStateDisabled
	}
	if o.tokensOptional {
		d.HttpTokens = ec2types.HttpTokensStateOptional
	}
	return d
}
