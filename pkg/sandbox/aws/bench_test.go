// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"context"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"
)

// benchAccount is an account without latencies and limits, with a VPC and a subnet of 65,000 addresses, spoken to over HTTP.
func benchAccount(b *testing.B) (*ec2.Client, string) {
	cloud := New(Options{Seed: 7})
	server := httptest.NewServer(cloud.Handler())
	b.Cleanup(server.Close)
	api := ec2.New(ec2.Options{
		Region: "us-east-1", BaseEndpoint: &server.URL, Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
		Retryer:    awssdk.NopRetryer{},
		HTTPClient: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}},
	})
	v, err := api.CreateVpc(b.Context(), &ec2.CreateVpcInput{CidrBlock: awssdk.String("10.0.0.0/16")})
	require.NoError(b, err)
	s, err := api.CreateSubnet(b.Context(), &ec2.CreateSubnetInput{VpcId: v.Vpc.VpcId, CidrBlock: awssdk.String("10.0.0.0/16")})
	require.NoError(b, err)
	return api, *s.Subnet.SubnetId
}

// cpuTime is what the process has used, clients included: on a busy machine it tells more than the clock.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

// BenchmarkDescribeInstanceTypes reads all records, page by page, as Karpenter does.
func BenchmarkDescribeInstanceTypes(b *testing.B) {
	api, _ := benchAccount(b)
	before := cpuTime(b)
	defer func() { b.ReportMetric(float64((cpuTime(b)-before).Milliseconds())/float64(b.N), "cpu-ms/op") }()
	for b.Loop() {
		n := 0
		pages := ec2.NewDescribeInstanceTypesPaginator(api, &ec2.DescribeInstanceTypesInput{})
		for pages.HasMorePages() {
			out, err := pages.NextPage(b.Context())
			require.NoError(b, err)
			n += len(out.InstanceTypes)
		}
		require.Greater(b, n, 1000)
	}
}

// BenchmarkMixedCalls makes an interface, gives it addresses, describes and deletes it, from many clients at once. A round is four
// calls.
func BenchmarkMixedCalls(b *testing.B) {
	api, subnet := benchAccount(b)
	var calls atomic.Int64
	round := func(ctx context.Context) error {
		created, err := api.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: &subnet})
		if err != nil {
			return err
		}
		id := created.NetworkInterface.NetworkInterfaceId
		_, err = api.AssignPrivateIpAddresses(ctx, &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: id, Ipv4PrefixCount: awssdk.Int32(1)})
		if err != nil {
			return err
		}
		if _, err = api.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{*id}}); err != nil {
			return err
		}
		_, err = api.DeleteNetworkInterface(ctx, &ec2.DeleteNetworkInterfaceInput{NetworkInterfaceId: id})
		calls.Add(4)
		return err
	}
	b.SetParallelism(16)
	b.ResetTimer()
	before := cpuTime(b)
	b.RunParallel(func(p *testing.PB) {
		for p.Next() {
			if err := round(b.Context()); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(calls.Load())/b.Elapsed().Seconds(), "calls/s")
	b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(calls.Load()), "cpu-us/call")
}
