// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/google/go-cmp/cmp"
	"github.com/stretchr/testify/require"
)

// fill gives every field below v a value of its own.
func fill(v reflect.Value, n *int, depth int) {
	*n++
	switch {
	case v.Type() == reflect.TypeFor[time.Time]():
		v.Set(reflect.ValueOf(time.Date(2026, 8, 1, 12, 0, *n%60, 0, time.UTC)))
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), n, depth)
	case v.Kind() == reflect.Struct:
		for i := range v.NumField() {
			if f := v.Type().Field(i); f.IsExported() && f.Name != "ResultMetadata" {
				fill(v.Field(i), n, depth+1)
			}
		}
	case v.Kind() == reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), n, depth)
		fill(v.Index(1), n, depth)
	case v.Kind() == reflect.String:
		v.SetString(fmt.Sprintf("text-%d <&>", *n))
	case v.Kind() == reflect.Bool:
		v.SetBool(*n%2 == 0)
	case v.Kind() == reflect.Uint8:
		v.SetUint(uint64(*n % 256))
	case v.Kind() == reflect.Float64:
		v.SetFloat(float64(*n) + 0.5)
	default:
		v.SetInt(int64(*n))
	}
}

var ignoreMarkers = cmp.FilterPath(func(p cmp.Path) bool {
	return p.Last().String() == ".noSmithyDocumentSerde" || p.Last().String() == ".ResultMetadata"
}, cmp.Ignore())

// wholeBody hands the transport a body of its own, which the SDK does not close below it: see shortestCall. Tests are to be
// right on a loaded machine too.
type wholeBody struct{}

func (wholeBody) Do(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	if r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
	}
	return http.DefaultClient.Do(r)
}

func clientOf(url string) *ec2.Client {
	return ec2.New(ec2.Options{
		BaseEndpoint: awssdk.String(url), HTTPClient: wholeBody{}, Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
		Retryer: awssdk.NopRetryer{},
	})
}

// method returns the SDK client's method for an action, and the types of its input and output.
func method(t *testing.T, client *ec2.Client, action string) (call reflect.Value, in, out reflect.Type) {
	call = reflect.ValueOf(client).MethodByName(action)
	require.True(t, call.IsValid(), "the SDK has no %s", action)
	return call, call.Type().In(1).Elem(), call.Type().Out(0).Elem()
}

func TestEveryRequestOfTheSDKIsReadAsItWasMeant(t *testing.T) {
	for action, served := range ec2Actions() {
		t.Run(action, func(t *testing.T) {
			var body []byte
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ = io.ReadAll(r.Body)
				w.WriteHeader(http.StatusTeapot)
			}))
			defer server.Close()
			call, inType, _ := method(t, clientOf(server.URL), action)
			in := reflect.New(inType)
			n := 0
			fill(in.Elem(), &n, 0)
			call.Call([]reflect.Value{reflect.ValueOf(t.Context()), in})

			form, err := url.ParseQuery(string(body))
			require.NoError(t, err)
			require.Equal(t, action, form.Get("Action"))
			decoded, err := served.decode(form)
			require.NoError(t, err)
			require.Empty(t, cmp.Diff(in.Interface(), decoded, ignoreMarkers))
		})
	}
}

func TestEveryReplyReachesTheSDKAsItWasMeant(t *testing.T) {
	for action := range ec2Actions() {
		t.Run(action, func(t *testing.T) {
			var reply bytes.Buffer
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body)
				fmt.Fprintf(w, "<%[1]sResponse><requestId>r</requestId>%[2]s</%[1]sResponse>", action, reply.String())
			}))
			defer server.Close()
			call, inType, outType := method(t, clientOf(server.URL), action)
			out := reflect.New(outType)
			n := 0
			fill(out.Elem(), &n, 0)
			encodeBody(&reply, ec2Protocol{}, out.Interface())
			in := reflect.New(inType)
			n = 0
			fill(in.Elem(), &n, 0)
			results := call.Call([]reflect.Value{reflect.ValueOf(t.Context()), in})
			require.Equal(t, "<nil>", fmt.Sprint(results[1].Interface()))
			require.Empty(t, cmp.Diff(out.Interface(), results[0].Interface(), ignoreMarkers))
		})
	}
}

func TestEveryHonouredParameterExists(t *testing.T) {
	for name, a := range ec2Actions() {
		for _, path := range a.honoured {
			// A list index is where it is in the input: try each segment with and without one.
			var err error
			found := false
			segments := strings.Split(path, ".")
			for mask := range 1 << (2 * len(segments)) {
				key := ""
				for i, segment := range segments {
					key += segment + "."
					if mask&(1<<i) != 0 {
						key += "1."
					}
				}
				if _, err = a.decode(url.Values{strings.TrimSuffix(key, "."): {"1"}}); err == nil || !strings.Contains(err.Error(), "UnknownParameter") {
					found = true
					break
				}
				for _, below := range []string{"Name", "Key", "Arn", "Value", "LaunchTemplateName", "CidrIp", "AttachmentId", "ResourceType",
					"CapacityReservationPreference", "PrivateIpAddress", "Ipv4Prefix", "GroupId"} {
					if _, err = a.decode(url.Values{key + below: {"1"}}); err == nil || !strings.Contains(err.Error(), "UnknownParameter") {
						found = true
						break
					}
				}
				if found {
					break
				}
			}
			require.True(t, found, "%s has no parameter %s: %v", name, path, err)
		}
	}
}

func FuzzDecodingARequestNeverPanics(f *testing.F) {
	f.Add("Action=CreateNetworkInterface&SubnetId=subnet-1&PrivateIpAddresses.1.Primary=true&TagSpecification.1.Tag.1.Key=a")
	f.Add("Action=CreateFleet&LaunchTemplateConfigs.1.Overrides.2.Priority=0.5&TargetCapacitySpecification.TotalTargetCapacity=x")
	f.Add("Action=RunInstances&NetworkInterface.1.=2&NetworkInterface..DeviceIndex=0&MaxCount.1=1&=")
	f.Fuzz(func(t *testing.T, query string) {
		form, err := url.ParseQuery(query)
		if err != nil {
			t.Skip()
		}
		if a, ok := ec2Actions()[form.Get("Action")]; ok {
			if _, err := a.decode(form); err == nil {
				_ = a.refuse(form.Get("Action"), form)
			}
		}
	})
}
