// SPDX-License-Identifier: Apache-2.0

package eni

import (
	"encoding/json"
	"testing"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/stretchr/testify/require"
)

// FuzzAnInterfaceIsReadOrRefused takes anything for EC2's description of an ENI: what the agent may change is tagged for this instance, on the
// first network card, and not the primary one, and all of its addresses are IPv4.
func FuzzAnInterfaceIsReadOrRefused(f *testing.F) {
	for _, described := range []string{
		`{"NetworkInterfaceId":"eni-1","MacAddress":"02:00:00:00:00:01","SubnetId":"subnet-1","PrivateIpAddress":"100.64.0.5","Ipv4Prefixes":[{"Ipv4Prefix":"100.64.0.16/28"}],
		"PrivateIpAddresses":[{"Primary":true,"PrivateIpAddress":"100.64.0.5"},{"PrivateIpAddress":"100.64.0.99"}],"TagSet":[{"Key":"node.k8s.amazonaws.com/instance_id","Value":"i-1"}],
		"Attachment":{"DeviceIndex":1,"AttachmentId":"a","DeleteOnTermination":true,"Status":"attached","NetworkCardIndex":0}}`,
		`{"PrivateIpAddress":"::1","PrivateIpAddresses":[{"PrivateIpAddress":"::2"}],"Ipv4Prefixes":[{"Ipv4Prefix":"::/28"}]}`,
		`{"PrivateIpAddress":"1.2.3.4","Ipv4Prefixes":[{}]}`, `{"Attachment":{"DeviceIndex":-1}}`, `{}`,
	} {
		f.Add([]byte(described))
	}
	f.Fuzz(func(t *testing.T, described []byte) {
		var n ec2types.NetworkInterface
		if json.Unmarshal(described, &n) != nil {
			return
		}
		c := &Client{InstanceID: "i-1"}
		e, err := c.parse(n)
		if err != nil {
			require.Contains(t, err.Error(), "ENI "+e.ID+": ")
			return
		}
		require.True(t, e.Primary.Is4(), "%s", e.Primary)
		for _, p := range e.Prefixes {
			require.True(t, p.IsValid() && p.Addr().Is4() && p == p.Masked() && p.Bits() >= 28, "%s", p)
		}
		if e.Ours {
			require.Zero(t, e.NetworkCard)
			require.True(t, n.Attachment == nil || e.DeviceIndex != 0)
		}
	})
}
