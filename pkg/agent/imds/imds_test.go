// SPDX-License-Identifier: Apache-2.0

package imds_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/imds"
)

// service answers as the metadata service would if it were broken: with the same for every path of /latest/meta-data, and a
// document.
func service(document, metadata string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case strings.HasSuffix(r.URL.Path, "/api/token"):
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
			_, _ = io.WriteString(w, "token")
		case strings.HasSuffix(r.URL.Path, "/instance-identity/document"):
			_, _ = io.WriteString(w, document)
		default:
			_, _ = io.WriteString(w, metadata)
		}
	})
}

func reader(t *testing.T, handler http.Handler) imds.Reader {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL)
	return imds.New(aws.Config{Region: "us-east-1", Retryer: func() aws.Retryer { return aws.NopRetryer{} }})
}

func TestNothingIsReadWithoutAToken(t *testing.T) {
	asked := 0
	_, err := reader(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/api/token") {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		asked++
		_, _ = io.WriteString(w, `{"instanceId":"i-1","privateIp":"10.0.0.7"}`)
	})).Instance(t.Context())
	require.ErrorContains(t, err, "instance metadata service")
	require.Zero(t, asked, "requests of version 1")
}

// FuzzAnswersAreReadOrRefused: what is read is complete, and nonsense is an error that names the service.
func FuzzAnswersAreReadOrRefused(f *testing.F) {
	document := `{"instanceId":"i-1","instanceType":"m5.large","availabilityZone":"us-east-1a","region":"us-east-1","privateIp":"10.0.0.7"}`
	f.Add(document, "0a:00:00:00:00:01")
	f.Add(document, "10.0.0.0/21\n100.64.0.0/17")
	f.Add(`{"privateIp":"::1"}`, "")
	f.Add("", "\x00\n/")
	f.Fuzz(func(t *testing.T, document, metadata string) {
		r := reader(t, service(document, metadata))
		if instance, err := r.Instance(t.Context()); err != nil {
			require.ErrorContains(t, err, "instance metadata service")
		} else {
			require.True(t, instance.PrimaryAddress.IsValid())
			require.NotEmpty(t, instance.PrimaryMAC)
		}
		interfaces, err := r.Interfaces(t.Context())
		if err != nil {
			require.ErrorContains(t, err, "instance metadata service")
			require.Empty(t, interfaces)
		}
	})
}
