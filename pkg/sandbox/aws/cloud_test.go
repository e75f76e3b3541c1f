// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"
)

const (
	testVPC     = "vpc-0d0ec0de000000001"
	testNodes   = "subnet-0d0ec0de000000a00" // 10.0.0.0/24, us-east-1a
	testNodesB  = "subnet-0d0ec0de000000b00" // 10.0.1.0/24, us-east-1b
	testPods    = "subnet-0d0ec0de0000000a1" // 100.64.0.0/24, us-east-1a
	testGroup   = "sg-0d0ec0de000000001"
	testProfile = "nodes"
)

// world is an account with a VPC, spoken to over HTTP by SDK clients.
type world struct {
	*testing.T
	cloud  *Cloud
	server *httptest.Server
	config awssdk.Config
	ec2    *ec2.Client
	image  string // AL2023, x86_64
}

// immediate makes every transition as soon as the call is done, and keeps terminated instances in sight.
func immediate() Profile { return Profile{Terminated: time.Hour} }

func newAccount(t *testing.T, latency Profile) *world {
	w := &world{T: t, cloud: New(Options{Seed: 7, Latency: latency})}
	w.server = httptest.NewServer(w.declaredOnly(w.cloud.Handler()))
	t.Cleanup(w.server.Close)
	w.config = awssdk.Config{
		HTTPClient: wholeBody{}, Region: "us-east-1", BaseEndpoint: awssdk.String(w.server.URL), Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
		Retryer: func() awssdk.Retryer { return awssdk.NopRetryer{} },
	}
	w.ec2 = ec2.NewFromConfig(w.config)
	w.image, _ = parameter("/aws/service/eks/optimized-ami/1.35/amazon-linux-2023/x86_64/standard/recommended/image_id")
	return w
}

func newWorld(t *testing.T) *world { return newWorldLike(t, immediate()) }

func newWorldLike(t *testing.T, latency Profile) *world {
	w := newAccount(t, latency)
	w.cloud.ReserveIDs([]string{testVPC, testNodes, testNodesB, testPods, testGroup})
	ctx := t.Context()
	_, err := w.ec2.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: awssdk.String("10.0.0.0/21")})
	require.NoError(t, err)
	_, err = w.ec2.AssociateVpcCidrBlock(ctx, &ec2.AssociateVpcCidrBlockInput{VpcId: awssdk.String(testVPC), CidrBlock: awssdk.String("100.64.0.0/17")})
	require.NoError(t, err)
	w.await("the block is associated", func(s Snapshot) bool { return len(s.VPCs[0].CIDRs) == 2 })
	w.subnet("10.0.0.0/24", "us-east-1a")
	w.subnet("10.0.1.0/24", "us-east-1b")
	w.subnet("100.64.0.0/24", "us-east-1a")
	_, err = w.ec2.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{
		VpcId: awssdk.String(testVPC), GroupName: awssdk.String("cluster"), Description: awssdk.String("cluster"),
	})
	require.NoError(t, err)
	identity := iam.NewFromConfig(w.config)
	_, err = identity.CreateRole(ctx, &iam.CreateRoleInput{RoleName: awssdk.String("node-role"), AssumeRolePolicyDocument: awssdk.String(ec2Trust)})
	require.NoError(t, err)
	_, err = identity.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: awssdk.String(testProfile)})
	require.NoError(t, err)
	_, err = identity.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{
		InstanceProfileName: awssdk.String(testProfile), RoleName: awssdk.String("node-role"),
	})
	require.NoError(t, err)
	return w
}

func (w *world) ctx() context.Context { return w.Context() }

func (w *world) subnet(cidr, zone string) string {
	out, err := w.ec2.CreateSubnet(w.ctx(), &ec2.CreateSubnetInput{
		VpcId: awssdk.String(testVPC), CidrBlock: awssdk.String(cidr), AvailabilityZone: awssdk.String(zone),
	})
	require.NoError(w, err)
	w.cloud.mu.Lock()
	defer w.cloud.mu.Unlock()
	w.cloud.subnets.get(*out.Subnet.SubnetId).visibleAt = time.Time{} // it is there before the test begins
	return *out.Subnet.SubnetId
}

// await waits for a state of the snapshot.
func (w *world) await(what string, reached func(Snapshot) bool) Snapshot {
	w.Helper()
	changed := w.cloud.Changed()
	deadline := time.After(10 * time.Second)
	for {
		select {
		case <-changed:
			if s := w.cloud.Snapshot(); reached(s) {
				return s
			}
		case <-deadline:
			require.FailNow(w, "never came true", what)
		}
	}
}

// run starts one instance and waits until it runs.
func (w *world) run(instanceType, subnetID string) string {
	w.Helper()
	out, err := w.ec2.RunInstances(w.ctx(), &ec2.RunInstancesInput{
		ImageId: &w.image, InstanceType: ec2types.InstanceType(instanceType), MinCount: awssdk.Int32(1), MaxCount: awssdk.Int32(1), SubnetId: &subnetID,
		IamInstanceProfile: &ec2types.IamInstanceProfileSpecification{Name: awssdk.String(testProfile)},
		UserData:           awssdk.String(base64.StdEncoding.EncodeToString([]byte("hello"))),
	})
	require.NoError(w, err)
	id := *out.Instances[0].InstanceId
	require.Equal(w, ec2types.InstanceStateNamePending, out.Instances[0].State.Name)
	w.await("running", func(s Snapshot) bool { return stateOf(s, id) == "running" })
	return id
}

func stateOf(s Snapshot, id string) string {
	for _, i := range s.Instances {
		if i.ID == id {
			return i.State
		}
	}
	return ""
}

func interfaceOf(s Snapshot, id string) *Interface {
	for _, n := range s.Interfaces {
		if n.ID == id {
			return &n
		}
	}
	return nil
}

// eni creates an interface.
func (w *world) eni(in *ec2.CreateNetworkInterfaceInput) *ec2types.NetworkInterface {
	w.Helper()
	out, err := w.ec2.CreateNetworkInterface(w.ctx(), in)
	require.NoError(w, err)
	return out.NetworkInterface
}

func (w *world) attach(eni, instanceID string, index int32) string {
	w.Helper()
	out, err := w.ec2.AttachNetworkInterface(w.ctx(), &ec2.AttachNetworkInterfaceInput{
		NetworkInterfaceId: &eni, InstanceId: &instanceID, DeviceIndex: &index,
	})
	require.NoError(w, err)
	w.await("attached", func(s Snapshot) bool { return interfaceOf(s, eni).Attachment.Status == "attached" })
	return *out.AttachmentId
}

// requireError checks an error as the SDK sees it.
func requireError(t *testing.T, err error, code, text string) {
	t.Helper()
	var e smithy.APIError
	require.True(t, errors.As(err, &e), "%v", err)
	require.Equal(t, code, e.ErrorCode(), e.ErrorMessage())
	require.Contains(t, e.ErrorMessage(), text)
}

func requireStatus(t *testing.T, err error, status int) {
	t.Helper()
	var e *smithyhttp.ResponseError
	require.True(t, errors.As(err, &e), "%v", err)
	require.Equal(t, status, e.HTTPStatusCode())
}

func TestReservedIDsGoToTheNextResourcesOfTheirKindInOrder(t *testing.T) {
	w := newWorld(t)
	s := w.cloud.Snapshot()
	require.Equal(t, testVPC, s.VPCs[0].ID)
	require.Equal(t, []string{testNodes, testNodesB, testPods}, []string{s.Subnets[0].ID, s.Subnets[1].ID, s.Subnets[2].ID})
	require.Equal(t, "default", s.SecurityGroups[0].Name)
	require.NotEqual(t, testGroup, s.SecurityGroups[0].ID, "what comes with a VPC takes no reserved id")
	require.Equal(t, testGroup, s.SecurityGroups[1].ID)
}

func TestTheSameSeedGivesTheSameAccount(t *testing.T) {
	a, b := newWorld(t), newWorld(t)
	require.Equal(t, a.cloud.Snapshot().SecurityGroups, b.cloud.Snapshot().SecurityGroups)
}

func TestARequestWithoutASignatureIsRefused(t *testing.T) {
	w := newAccount(t, immediate())
	reply, err := http.Post(w.server.URL, "application/x-www-form-urlencoded", nil)
	require.NoError(t, err)
	defer reply.Body.Close()
	require.Equal(t, http.StatusForbidden, reply.StatusCode)
}

func TestARequestForAnotherRegionIsRefused(t *testing.T) {
	w := newAccount(t, immediate())
	w.config.Region = "eu-west-1"
	_, err := ec2.NewFromConfig(w.config).DescribeVpcs(t.Context(), &ec2.DescribeVpcsInput{})
	requireError(t, err, "AuthFailure", "us-east-1")
	requireStatus(t, err, http.StatusUnauthorized)
}

func TestASnapshotIsACopy(t *testing.T) {
	w := newWorld(t)
	w.run("m5.large", testNodes)
	s := w.cloud.Snapshot()
	s.Interfaces[0].MAC[0] = 0xff
	s.Interfaces[0].Attachment.InstanceID = "i-other"
	s.Instances[0].UserData[0] = 'X'
	again := w.cloud.Snapshot()
	require.NotEqual(t, byte(0xff), again.Interfaces[0].MAC[0])
	require.NotEqual(t, "i-other", again.Interfaces[0].Attachment.InstanceID)
	require.Equal(t, "hello", string(again.Instances[0].UserData))
	require.Equal(t, "ip-"+dashes(again.Instances[0].PrivateIP.String())+".ec2.internal", again.Instances[0].PrivateDNS)
}

func dashes(address string) string {
	out := []byte(address)
	for i := range out {
		if out[i] == '.' {
			out[i] = '-'
		}
	}
	return string(out)
}
