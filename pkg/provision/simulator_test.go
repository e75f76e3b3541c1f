// SPDX-License-Identifier: Apache-2.0

package provision_test

import (
	"math/rand/v2"
	"net/http/httptest"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/provision"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// The simulator has AWS's table of its own, written apart from the planner's.
func TestTheSimulatorTakesTheBlocksThatThePlannerTakes(t *testing.T) {
	server := httptest.NewServer(simulator.New(simulator.Options{Seed: 1}).Handler())
	defer server.Close()
	api := ec2.New(ec2.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("a", "b", ""), Retryer: aws.NopRetryer{},
	})
	r := rand.New(rand.NewPCG(1, 1))
	taken, refused := 0, 0
	for _, primary := range []string{"10.0.0.0/21", "10.1.128.0/17", "10.2.0.0/16", "172.16.0.0/16", "172.31.0.0/20", "192.168.0.0/20", "100.64.0.0/16", "198.19.0.0/20", "54.0.0.0/16"} {
		for _, near := range []string{
			"10.0.0.0/8", "10.0.0.0/15", "172.16.0.0/12", "172.31.0.0/16", "192.168.0.0/16", "198.18.0.0/15", "198.19.0.0/16", "100.64.0.0/10", "169.254.0.0/16", "127.0.0.0/8", "224.0.0.0/3",
			"0.0.0.0/8", "0.0.0.0/0",
		} {
			cidr := within(r, near)
			if cidr.Overlaps(prefix(primary)) {
				continue
			}
			vpc, err := api.CreateVpc(t.Context(), &ec2.CreateVpcInput{CidrBlock: &primary})
			require.NoError(t, err)
			_, err = api.AssociateVpcCidrBlock(t.Context(), &ec2.AssociateVpcCidrBlockInput{VpcId: vpc.Vpc.VpcId, CidrBlock: aws.String(cidr.String())})
			require.Equal(t, provision.Associable(prefix(primary), cidr) == nil, err == nil, "%s to %s: %v", cidr, primary, err)
			if err == nil {
				taken++
			} else {
				refused++
			}
		}
	}
	require.Greater(t, taken, 20)
	require.Greater(t, refused, 20)
}
