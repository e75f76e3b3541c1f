// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"io"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/stretchr/testify/require"
)

// What is not simulated is refused, never ignored: these tests walk every call.

func TestEveryActionRefusesAParameterThatEC2DoesNotHave(t *testing.T) {
	w := newWorld(t)
	for action := range ec2Actions() {
		for _, key := range []string{"Colour", "Colour.1", "Colour.1.Name"} {
			reply := w.post(url.Values{"Action": {action}, key: {"red"}})
			body, err := io.ReadAll(reply.Body)
			require.NoError(t, err)
			require.Equal(t, http.StatusBadRequest, reply.StatusCode, "%s %s", action, body)
			require.Contains(t, string(body), "<Code>UnknownParameter</Code>", action)
			require.Contains(t, string(body), "The parameter Colour", action)
		}
	}
}

// refusedKeys are the parameters of EC2 that an action does not simulate, as keys of a form with a value of their type.
func refusedKeys(a action, above, path string, structure reflect.Type, depth int) map[string]string {
	keys := map[string]string{}
	for i := range structure.NumField() {
		f := structure.Field(i)
		if !f.IsExported() || above == "" && (f.Name == "DryRun" || f.Name == "ClientToken") {
			continue
		}
		name := (ec2Protocol{}).parameter(structure.Name(), f.Name, isList(f.Type))
		key, below := above+name, f.Type
		if isList(below) {
			key, below = key+".1", below.Elem()
		}
		for below.Kind() == reflect.Pointer {
			below = below.Elem()
		}
		switch {
		case a.honours(path+name) || isInert(path+name) || depth > 4:
		case below == reflect.TypeFor[time.Time]():
			keys[key] = "2026-08-01T00:00:00Z"
		case below.Kind() == reflect.Struct:
			for k, v := range refusedKeys(a, key+".", path+name+".", below, depth+1) {
				keys[k] = v
			}
		case below.Kind() == reflect.Bool:
			keys[key] = "true"
		case below.Kind() == reflect.Slice && !isList(below):
			keys[key] = "eA==" // bytes
		case isList(below):
			keys[key+".1"] = "x"
		default:
			keys[key] = "1"
		}
	}
	return keys
}

func TestEveryParameterThatIsNotSimulatedIsRefusedByName(t *testing.T) {
	c := New(Options{})
	refused := 0
	for name, a := range c.actions {
		in, err := a.decode(nil)
		require.NoError(t, err)
		for key, value := range refusedKeys(a, "", "", reflect.TypeOf(in).Elem(), 0) {
			_, err := c.callEC2(url.Values{"Action": {name}, key: {value}}, "")
			e := asAPIError(err)
			require.Equal(t, "UnsupportedOperation", e.code, "%s %s: %s", name, key, e.message)
			require.Equal(t, "The sandbox does not simulate the parameter "+key+" of "+name, e.message)
			refused++
		}
	}
	require.Greater(t, refused, 300)
}

func TestEveryFilterWorksOrSaysThatItIsNotSimulated(t *testing.T) {
	w := newWorld(t)
	w.populate()
	empty := newAccount(t, immediate())
	gateway := w.transitGateway()
	required := map[string]url.Values{
		"GetSubnetCidrReservations": {"SubnetId": {testPods}}, "DescribeLaunchTemplateVersions": {"LaunchTemplateName": {"all"}},
		"GetTransitGatewayAttachmentPropagations": {"TransitGatewayAttachmentId": {w.attachVPC(*gateway.TransitGatewayId, testVPC, testNodes)}},
		"SearchTransitGatewayRoutes":              {"TransitGatewayRouteTableId": {*gateway.Options.AssociationDefaultRouteTableId}},
	}
	ask := func(w *world, action, name string) (int, string) {
		form := url.Values{"Action": {action}, "Filter.1.Name": {name}, "Filter.1.Value.1": {"*"}}
		if strings.HasPrefix(name, "route-search.") {
			form.Set("Filter.1.Value.1", "0.0.0.0/0")
		}
		for key, values := range required[action] {
			form[key] = values
		}
		reply := w.post(form)
		body, err := io.ReadAll(reply.Body)
		require.NoError(t, err)
		return reply.StatusCode, string(body)
	}
	for action := range simulatedFilters {
		for name := range strings.FieldsSeq(simulatedFilters[action]) {
			if name == "tag:" {
				name = "tag:team"
			}
			status, body := ask(w, action, name)
			require.Equal(t, http.StatusOK, status, "%s %s: %s", action, name, body)
		}
		for name := range strings.FieldsSeq(otherFilters[action]) {
			for _, account := range []*world{w, empty} {
				_, body := ask(account, action, name)
				require.Contains(t, body, "The sandbox does not simulate the filter "+name+" of "+action)
			}
		}
		for _, account := range []*world{w, empty} {
			_, body := ask(account, action, "colour")
			require.Contains(t, body, "<Code>InvalidParameterValue</Code><Message>The filter &#39;colour&#39; is invalid", action)
		}
	}
}

// populate makes one of everything that is described with filters.
func (w *world) populate() {
	w.Helper()
	w.run("m5.large", testNodes)
	w.template(w.karpenterTemplate("all", primaryOnly()))
	_, err := w.ec2.CreateSubnetCidrReservation(w.ctx(), &ec2.CreateSubnetCidrReservationInput{SubnetId: ptr(testPods), Cidr: ptr("100.64.0.16/28"), ReservationType: "prefix"})
	require.NoError(w, err)
	address, err := w.ec2.AllocateAddress(w.ctx(), &ec2.AllocateAddressInput{Domain: "vpc"})
	require.NoError(w, err)
	gateway, err := w.ec2.CreateInternetGateway(w.ctx(), &ec2.CreateInternetGatewayInput{})
	require.NoError(w, err)
	_, err = w.ec2.AttachInternetGateway(w.ctx(), &ec2.AttachInternetGatewayInput{InternetGatewayId: gateway.InternetGateway.InternetGatewayId, VpcId: ptr(testVPC)})
	require.NoError(w, err)
	_, err = w.ec2.CreateNatGateway(w.ctx(), &ec2.CreateNatGatewayInput{SubnetId: ptr(testNodes), AllocationId: address.AllocationId})
	require.NoError(w, err)
	_, err = w.ec2.CreatePlacementGroup(w.ctx(), &ec2.CreatePlacementGroupInput{GroupName: ptr("all"), Strategy: "cluster"})
	require.NoError(w, err)
	_, err = w.ec2.CreateCapacityReservation(w.ctx(), &ec2.CreateCapacityReservationInput{
		InstanceType: ptr("m5.large"), InstancePlatform: "Linux/UNIX", InstanceCount: ptr[int32](1), AvailabilityZone: ptr("us-east-1a"),
	})
	require.NoError(w, err)
}

func TestTheOtherServicesRefuseWhatTheyDoNotSimulate(t *testing.T) {
	w := newWorld(t)
	w.cloud.SubscribeEvents("queue")
	send := func(service, method, path, target, contentType, body string) string {
		r, err := http.NewRequestWithContext(t.Context(), method, w.server.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Content-Type", contentType)
		if target != "" {
			r.Header.Set("X-Amz-Target", target)
		}
		credentials, err := w.config.Credentials.Retrieve(t.Context())
		require.NoError(t, err)
		require.NoError(t, v4.NewSigner().SignHTTP(t.Context(), credentials, r, "UNSIGNED-PAYLOAD", service, "us-east-1", time.Now()))
		reply, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer reply.Body.Close()
		answer, err := io.ReadAll(reply.Body)
		require.NoError(t, err)
		require.GreaterOrEqual(t, reply.StatusCode, 400, "%s %s %s", service, target, body)
		return string(answer)
	}
	const form, object = "application/x-www-form-urlencoded", "application/x-amz-json-1.1"
	for target := range w.cloud.jsonOperations() {
		require.Contains(t, send("any", http.MethodPost, "/", target, object, `{"Colour":"red"}`), "Colour", target)
	}
	for _, action := range []string{
		"CreateRole", "GetRole", "CreateInstanceProfile", "GetInstanceProfile", "DeleteInstanceProfile", "TagInstanceProfile", "ListInstanceProfiles",
		"AddRoleToInstanceProfile", "RemoveRoleFromInstanceProfile",
	} {
		require.Contains(t, send("iam", http.MethodPost, "/", "", form, "Action="+action+"&Colour=red"), "Colour", action)
	}
	require.Contains(t, send("sts", http.MethodPost, "/", "", form, "Action=GetCallerIdentity&Colour=red"), "Colour")
	require.Contains(t, send("sqs", http.MethodPost, "/", "", form, "Action=GetQueueUrl&QueueName=queue&Colour=red"), "Colour")
	require.Contains(t, send("eks", http.MethodGet, "/clusters/none?colour=red", "", object, ""), "does not simulate")
	// Calls and services that are not there.
	require.Contains(t, send("iam", http.MethodPost, "/", "", form, "Action=DeleteRole"), "The sandbox does not simulate the action DeleteRole of iam")
	require.Contains(t, send("ssm", http.MethodPost, "/", "AmazonSSM.PutParameter", object, "{}"), "The sandbox does not simulate AmazonSSM.PutParameter")
	require.Contains(t, send("eks", http.MethodGet, "/addons", "", object, ""), "The sandbox does not simulate GET /addons of EKS")
	require.Contains(t, send("s3", http.MethodGet, "/bucket", "", object, ""), "The sandbox does not simulate the service")
}
