// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/http"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"
)

func TestABucketEmptiesAndRefillsByFractions(t *testing.T) {
	now := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
	b := &bucket{capacity: 2, refill: 0.1}
	require.True(t, b.take(1, now))
	require.True(t, b.take(1, now))
	require.False(t, b.take(1, now))
	require.False(t, b.take(1, now.Add(9*time.Second)))
	require.True(t, b.take(1, now.Add(11*time.Second)))
	require.True(t, b.take(2, now.Add(time.Hour)))
	require.False(t, b.take(1, now.Add(time.Hour)), "a bucket never holds more than its capacity")
}

func TestEachActionHasTheBucketOfTheDocumentation(t *testing.T) {
	for _, row := range []struct {
		action               string
		mutating, unfiltered bool
		instances, allowed   int
	}{
		{"DescribeSubnets", false, true, 0, 100},
		{"DescribeInstances", false, false, 0, 100},
		{"DescribeInstances", false, true, 0, 50},
		{"DescribeNetworkInterfaces", false, true, 0, 50},
		{"CreateFleet", true, false, 0, 50},
		{"AttachNetworkInterface", true, false, 0, 50},
		{"CreateNetworkInterface", true, false, 0, 100},
		{"AssignPrivateIpAddresses", true, false, 0, 100},
		{"RunInstances", true, false, 1, 5},
		{"RunInstances", true, false, 400, 2},
		{"TerminateInstances", true, false, 1, 100},
		{"TerminateInstances", true, false, 300, 3},
		{"CreateTags", true, false, 0, 100},
		{"CreateSubnetCidrReservation", true, false, 0, 5},
	} {
		now := time.Date(2026, 8, 1, 0, 0, 0, 0, time.UTC)
		buckets := throttle{}
		allowed := 0
		for buckets.allow(row.action, row.mutating, row.unfiltered, row.instances, now) {
			allowed++
		}
		require.Equal(t, row.allowed, allowed, "%+v", row)
		require.True(t, buckets.allow("DescribeVpcs", false, false, 0, now), "no action empties another's bucket")
	}
}

func TestAnEmptyBucketAnswers503(t *testing.T) {
	w := newAccount(t, Profile{RequestLimit: true})
	for range 1000 {
		if _, err := w.ec2.CreateSubnetCidrReservation(t.Context(), &ec2.CreateSubnetCidrReservationInput{
			SubnetId: ptr("subnet-0d0ec0de000000a00"), Cidr: ptr("10.0.0.0/28"), ReservationType: "prefix",
		}); !isCode(err, "InvalidSubnetID.NotFound") {
			requireError(t, err, "RequestLimitExceeded", "Request limit exceeded.")
			requireStatus(t, err, http.StatusServiceUnavailable)
			return
		}
	}
	require.Fail(t, "never limited")
}

func TestInstancesEmptyABucketOfTheirOwn(t *testing.T) {
	latency := immediate()
	latency.RequestLimit = true
	w := newAccountLike(t, latency)
	run := func(count int32) error {
		_, err := w.ec2.RunInstances(t.Context(), &ec2.RunInstancesInput{
			ImageId: &w.image, InstanceType: "m5.large", SubnetId: ptr(testNodes), MinCount: &count, MaxCount: &count, DryRun: ptr(true),
		})
		return err
	}
	requireError(t, run(900), "DryRunOperation", "") // a dry run counts
	err := run(900)
	requireError(t, err, "RequestLimitExceeded", "Request limit exceeded.")
	requireStatus(t, err, http.StatusServiceUnavailable)
	requireError(t, run(1), "DryRunOperation", "")
	var limited error
	for limited == nil || isCode(limited, "DryRunOperation") {
		limited = run(1) // five requests at once, two more each second
	}
	requireError(t, limited, "RequestLimitExceeded", "Request limit exceeded.")
	_, err = w.ec2.DescribeInstances(t.Context(), &ec2.DescribeInstancesInput{})
	require.NoError(t, err, "another action has its own bucket")
}
