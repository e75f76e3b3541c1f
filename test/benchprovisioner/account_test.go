// SPDX-License-Identifier: Apache-2.0

package benchprovisioner

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	ec2nodeclass "github.com/aws/karpenter-provider-aws/pkg/apis/v1"
	"github.com/stretchr/testify/require"

	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane"
)

const (
	cluster = "bench"
	role    = "nodes"
)

var zones = []string{"us-east-1a", "us-east-1b", "us-east-1c"}

// account is a simulated one, with a VPC that has room for thousands of nodes and of their pods.
type account struct {
	cloud *simulator.Cloud
	ec2   *ec2.Client
	vpc   string
	group string
	// nodeSubnets by zone.
	nodeSubnets []ec2nodeclass.Subnet
	// podSubnets by the name of the ENIConfig that is to name them: those named after the zones, and three more a zone.
	podSubnets map[string]podSubnet
}

type podSubnet struct {
	id, zone string
}

func newAccount(t *testing.T, latency simulator.Profile) *account {
	t.Helper()
	ctx := t.Context()
	a := &account{
		cloud:      simulator.New(simulator.Options{Seed: 5, Latency: latency, Quotas: simulator.Quotas{Interfaces: 20000}}),
		podSubnets: map[string]podSubnet{},
	}
	config := a.config(a.serve(t).url)
	a.ec2 = ec2.NewFromConfig(config)
	vpc, err := a.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/16")})
	require.NoError(t, err)
	a.vpc = *vpc.Vpc.VpcId
	group, err := a.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{VpcId: &a.vpc, GroupName: aws.String(role), Description: aws.String(role)})
	require.NoError(t, err)
	a.group = *group.GroupId
	// A zone's /16 has prefixes for 512 nodes of 110 pods: 1,000 nodes find room in three. The others, three a zone, share one CIDR.
	a.associate(t, "100.80.0.0/16")
	for i, zone := range zones {
		a.nodeSubnets = append(a.nodeSubnets, ec2nodeclass.Subnet{ID: a.subnet(t, zone, fmt.Sprintf("10.0.%d.0/18", 64*i)), Zone: zone, ZoneID: fmt.Sprint("use1-az", i+1)})
		own := fmt.Sprintf("100.%d.0.0/16", 64+i)
		a.associate(t, own)
		a.podSubnets[zone] = podSubnet{a.subnet(t, zone, own), zone}
		for j := range 3 {
			a.podSubnets[fmt.Sprint(zone, "-", j)] = podSubnet{a.subnet(t, zone, fmt.Sprintf("100.80.%d.0/20", 16*(3*i+j))), zone}
		}
	}
	a.instanceProfile(t, iam.NewFromConfig(config))
	a.cloud.SetCluster(simulator.Cluster{
		Name: cluster, Endpoint: "https://10.0.0.9", Version: controlplane.Version, ServiceCIDR: netip.MustParsePrefix("172.20.0.0/16"), VPCID: a.vpc,
	})
	return a
}

func (a *account) associate(t *testing.T, cidr string) {
	t.Helper()
	_, err := a.ec2.AssociateVpcCidrBlock(t.Context(), &ec2.AssociateVpcCidrBlockInput{VpcId: &a.vpc, CidrBlock: &cidr})
	require.NoError(t, err)
	require.Eventually(t, func() bool { // EC2 associates it after the answer
		out, err := a.ec2.DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{VpcIds: []string{a.vpc}})
		require.NoError(t, err)
		for _, block := range out.Vpcs[0].CidrBlockAssociationSet {
			if *block.CidrBlock == cidr && block.CidrBlockState.State == "associated" {
				return true
			}
		}
		return false
	}, time.Minute, 10*time.Millisecond)
}

func (a *account) subnet(t *testing.T, zone, cidr string) string {
	t.Helper()
	out, err := a.ec2.CreateSubnet(t.Context(), &ec2.CreateSubnetInput{VpcId: &a.vpc, AvailabilityZone: &zone, CidrBlock: &cidr})
	require.NoError(t, err)
	return *out.Subnet.SubnetId
}

func (a *account) instanceProfile(t *testing.T, api *iam.Client) {
	t.Helper()
	trust := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
	_, err := api.CreateRole(t.Context(), &iam.CreateRoleInput{RoleName: aws.String(role), AssumeRolePolicyDocument: &trust})
	require.NoError(t, err)
	_, err = api.CreateInstanceProfile(t.Context(), &iam.CreateInstanceProfileInput{InstanceProfileName: aws.String(role)})
	require.NoError(t, err)
	_, err = api.AddRoleToInstanceProfile(t.Context(), &iam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String(role), RoleName: aws.String(role)})
	require.NoError(t, err)
}

func (a *account) config(url string) aws.Config {
	return aws.Config{Region: "us-east-1", BaseEndpoint: &url, Credentials: credentials.NewStaticCredentialsProvider("bench", "bench", "")}
}

// door is one of the account's endpoints. It counts what comes in.
type door struct {
	url string

	mu    sync.Mutex
	calls map[string]int // EC2's, by operation
	spent time.Duration  // until the answers were written
}

// serve the account's APIs to one client.
func (a *account) serve(t *testing.T) *door {
	d := &door{calls: map[string]int{}}
	handler := a.cloud.Handler()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		start := time.Now()
		handler.ServeHTTP(w, r)
		took := time.Since(start)
		form, _ := url.ParseQuery(string(body)) // other services' bodies are no forms
		d.mu.Lock()
		defer d.mu.Unlock()
		d.spent += took
		if form.Get("Version") == "2016-11-15" { // EC2's
			d.calls[form.Get("Action")]++
		}
	}))
	t.Cleanup(server.Close)
	d.url = server.URL
	return d
}

// reset returns what came in since the last time.
func (d *door) reset() (calls map[string]int, spent time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	calls, spent = d.calls, d.spent
	d.calls, d.spent = map[string]int{}, 0
	return calls, spent
}
