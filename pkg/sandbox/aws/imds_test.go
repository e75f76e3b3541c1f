// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"github.com/stretchr/testify/require"
)

// metadataOf returns the service as one instance sees it.
func (w *world) metadataOf(id string) (*imds.Client, string) {
	server := httptest.NewServer(w.cloud.IMDS(func(netip.Addr) (string, bool) { return id, id != "" }))
	w.Cleanup(server.Close)
	return imds.New(imds.Options{Endpoint: server.URL, Retryer: awssdk.NopRetryer{}}), server.URL
}

func (w *world) metadata(client *imds.Client, path string) string {
	w.Helper()
	out, err := client.GetMetadata(w.ctx(), &imds.GetMetadataInput{Path: path})
	require.NoError(w, err, path)
	defer out.Content.Close()
	text, err := io.ReadAll(out.Content)
	require.NoError(w, err)
	return string(text)
}

func notFound(t *testing.T, client *imds.Client, path string) {
	t.Helper()
	_, err := client.GetMetadata(t.Context(), &imds.GetMetadataInput{Path: path})
	var e *smithyhttp.ResponseError
	require.ErrorAs(t, err, &e, path)
	require.Equal(t, http.StatusNotFound, e.HTTPStatusCode())
}

func TestAnInstanceReadsWhatItIsFromItsMetadata(t *testing.T) {
	w := newWorld(t)
	id := w.run("m5.large", testNodes)
	client, _ := w.metadataOf(id)
	s := w.cloud.Snapshot()
	primary := s.Interfaces[0]
	require.Equal(t, id, w.metadata(client, "instance-id"))
	require.Equal(t, "m5.large", w.metadata(client, "instance-type"))
	require.Equal(t, "us-east-1a", w.metadata(client, "placement/availability-zone"))
	require.Equal(t, "us-east-1", w.metadata(client, "placement/region"))
	require.Equal(t, primary.Primary.String(), w.metadata(client, "local-ipv4"))
	require.Equal(t, s.Instances[0].PrivateDNS, w.metadata(client, "local-hostname"))
	mac := primary.MAC.String()
	require.Equal(t, mac, w.metadata(client, "mac"))
	require.Equal(t, mac+"/", w.metadata(client, "network/interfaces/macs/"))
	at := "network/interfaces/macs/" + mac + "/"
	require.Equal(t, "0", w.metadata(client, at+"device-number"))
	require.Equal(t, "0", w.metadata(client, at+"network-card"))
	require.Equal(t, primary.ID, w.metadata(client, at+"interface-id"))
	require.Equal(t, testNodes, w.metadata(client, at+"subnet-id"))
	require.Equal(t, "10.0.0.0/24", w.metadata(client, at+"subnet-ipv4-cidr-block"))
	require.Equal(t, "10.0.0.0/21\n100.64.0.0/17", w.metadata(client, at+"vpc-ipv4-cidr-blocks"))
	require.Equal(t, primary.Primary.String(), w.metadata(client, at+"local-ipv4s"))
	require.Equal(t, primary.Groups[0], w.metadata(client, at+"security-group-ids"))
	require.Equal(t, "123456789012", w.metadata(client, at+"owner-id"))
	notFound(t, client, at+"ipv4-prefix")
	notFound(t, client, "no/such/thing")

	identity, err := client.GetInstanceIdentityDocument(t.Context(), &imds.GetInstanceIdentityDocumentInput{})
	require.NoError(t, err)
	require.Equal(t, "us-east-1", identity.Region)
	require.Equal(t, id, identity.InstanceID)
	data, err := client.GetUserData(t.Context(), &imds.GetUserDataInput{})
	require.NoError(t, err)
	text, err := io.ReadAll(data.Content)
	require.NoError(t, err)
	require.Equal(t, "hello", string(text))
	credentials, err := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client }).Retrieve(t.Context())
	require.NoError(t, err)
	require.Regexp(t, Secrets["access key id of a role"], credentials.AccessKeyID)
	require.Regexp(t, Secrets["secret access key of a role"], credentials.SecretAccessKey)
	require.Regexp(t, Secrets["session token of a role"], credentials.SessionToken)
	w.allow("read", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ec2:DescribeSubnets","Resource":"*"}}`)
	config := w.config.Copy()
	config.Credentials = ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client })
	_, err = ec2.NewFromConfig(config).DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{})
	require.NoError(t, err)
	who, err := sts.NewFromConfig(config).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	require.NoError(t, err)
	require.Regexp(t, "^arn:aws:sts::123456789012:assumed-role/[^/]+/"+id+"$", *who.Arn)
	require.Regexp(t, "^AROA[A-Z2-7]+:"+id+"$", *who.UserId)
}

func TestMetadataShowsAnInterfaceOnceItIsAttachedAndPrefixesOnceTheyHaveArrived(t *testing.T) {
	w := newWorld(t)
	id := w.run("m5.large", testNodes)
	client, _ := w.metadataOf(id)
	n := *w.eni(&ec2.CreateNetworkInterfaceInput{SubnetId: ptr(testPods), Ipv4PrefixCount: ptr[int32](1)}).NetworkInterfaceId
	pod := interfaceOf(w.cloud.Snapshot(), n)
	at := "network/interfaces/macs/" + pod.MAC.String() + "/"
	notFound(t, client, at+"device-number")
	w.attach(n, id, 1)
	require.Equal(t, "1", w.metadata(client, at+"device-number"))
	require.Equal(t, pod.Prefixes[0].String(), w.metadata(client, at+"ipv4-prefix"))

	latency := immediate()
	latency.Metadata = Span{Min: 1 << 40, Max: 1 << 40}
	slow := newAccountLike(t, latency)
	id = slow.runPlain("m5.large")
	client, _ = slow.metadataOf(id)
	primary := slow.cloud.Snapshot().Interfaces[0]
	_, err := slow.ec2.AssignPrivateIpAddresses(t.Context(), &ec2.AssignPrivateIpAddressesInput{NetworkInterfaceId: &primary.ID, Ipv4PrefixCount: ptr[int32](1)})
	require.NoError(t, err)
	require.Len(t, slow.cloud.Snapshot().Interfaces[0].Prefixes, 1)
	notFound(t, client, "network/interfaces/macs/"+primary.MAC.String()+"/ipv4-prefix")
}

func TestMetadataAsksForATokenOfTheInstance(t *testing.T) {
	w := newWorld(t)
	id, other := w.run("m5.large", testNodes), w.run("m5.large", testNodes)
	_, url := w.metadataOf(id)
	_, otherURL := w.metadataOf(other)
	do := func(method, url string, header map[string]string) (int, string) {
		r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
		require.NoError(t, err)
		for key, value := range header {
			r.Header.Set(key, value)
		}
		reply, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer reply.Body.Close()
		text, err := io.ReadAll(reply.Body)
		require.NoError(t, err)
		return reply.StatusCode, string(text)
	}
	status, token := do(http.MethodPut, url+"/latest/api/token", map[string]string{ttlHeader: "60"})
	require.Equal(t, http.StatusOK, status)
	require.Regexp(t, Secrets["session token of the metadata service"], token)
	for _, row := range []struct {
		name, method, url string
		header            map[string]string
		status            int
	}{
		{"with a token", http.MethodGet, url + "/latest/meta-data/instance-id", map[string]string{tokenHeader: token}, http.StatusOK},
		{"without a token", http.MethodGet, url + "/latest/meta-data/instance-id", nil, http.StatusUnauthorized},
		{"with a made-up token", http.MethodGet, url + "/latest/meta-data/instance-id", map[string]string{tokenHeader: "x"}, http.StatusUnauthorized},
		{"with another instance's token", http.MethodGet, otherURL + "/latest/meta-data/instance-id", map[string]string{tokenHeader: token}, http.StatusUnauthorized},
		{"a token without TTL", http.MethodPut, url + "/latest/api/token", nil, http.StatusBadRequest},
		{"a token for too long", http.MethodPut, url + "/latest/api/token", map[string]string{ttlHeader: "21601"}, http.StatusBadRequest},
		{"a token through a proxy", http.MethodPut, url + "/latest/api/token", map[string]string{ttlHeader: "60", "X-Forwarded-For": "192.0.2.1"}, http.StatusForbidden},
		{"a token by GET", http.MethodGet, url + "/latest/api/token", map[string]string{tokenHeader: token}, http.StatusMethodNotAllowed},
	} {
		t.Run(row.name, func(t *testing.T) {
			status, _ := do(row.method, row.url, row.header)
			require.Equal(t, row.status, status)
		})
	}
	_, nobody := w.metadataOf("")
	status, _ = do(http.MethodPut, nobody+"/latest/api/token", map[string]string{ttlHeader: "60"})
	require.Equal(t, http.StatusNotFound, status)
	_, listing := do(http.MethodGet, url+"/latest/meta-data/placement/", map[string]string{tokenHeader: token})
	require.Equal(t, "availability-zone availability-zone-id region", strings.ReplaceAll(listing, "\n", " "))
}

func TestMetadataOptionsComeFromTheLaunchAndAreModified(t *testing.T) {
	w := newWorld(t)
	ctx := t.Context()
	hops := func(id string) int {
		for _, i := range w.cloud.Snapshot().Instances {
			if i.ID == id {
				return i.MetadataHopLimit
			}
		}
		return 0
	}
	plain := w.run("m5.large", testNodes)
	require.Equal(t, 2, hops(plain))
	w.template(w.karpenterTemplate("one-hop", primaryOnly()))
	out, err := w.ec2.CreateFleet(ctx, fleet("one-hop", 1, w.on("m5.large", testNodes, "a")))
	require.NoError(t, err)
	require.Equal(t, 1, hops(out.Instances[0].InstanceIds[0]))

	_, url := w.metadataOf(plain)
	get := func() int {
		reply, err := http.Get(url + "/latest/meta-data/instance-id")
		require.NoError(t, err)
		defer reply.Body.Close()
		return reply.StatusCode
	}
	modify := func(in ec2.ModifyInstanceMetadataOptionsInput) error {
		in.InstanceId = &plain
		_, err := w.ec2.ModifyInstanceMetadataOptions(ctx, &in)
		return err
	}
	require.Equal(t, http.StatusUnauthorized, get())
	require.NoError(t, modify(ec2.ModifyInstanceMetadataOptionsInput{HttpTokens: ec2types.HttpTokensStateOptional, HttpPutResponseHopLimit: ptr[int32](3)}))
	require.Equal(t, http.StatusOK, get())
	require.Equal(t, 3, hops(plain))
	require.NoError(t, modify(ec2.ModifyInstanceMetadataOptionsInput{HttpEndpoint: ec2types.InstanceMetadataEndpointStateDisabled}))
	require.Equal(t, http.StatusForbidden, get())
	requireError(t, modify(ec2.ModifyInstanceMetadataOptionsInput{HttpPutResponseHopLimit: ptr[int32](65)}), "InvalidParameterValue", "between 1 and 64")
	requireError(t, modify(ec2.ModifyInstanceMetadataOptionsInput{InstanceMetadataTags: ec2types.InstanceMetadataTagsStateEnabled}), "UnsupportedOperation", "tags")
	described, err := w.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{plain}})
	require.NoError(t, err)
	options := described.Reservations[0].Instances[0].MetadataOptions
	require.Equal(t, int32(3), *options.HttpPutResponseHopLimit)
	require.Equal(t, ec2types.HttpTokensStateOptional, options.HttpTokens)
}
