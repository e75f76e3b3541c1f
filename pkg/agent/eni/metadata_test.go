// SPDX-License-Identifier: Apache-2.0

package eni_test

import (
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/imds"
	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	simulator "github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
)

// aws-node waits until the metadata service tells of a new ENI, and takes a part of its prefixes for all of them
// (amazon-vpc-cni-k8s #1967, #3887).
func TestNewAddressesNeverWaitForTheMetadataService(t *testing.T) {
	w := newWorld(t, "10.0.32.0/19")
	hour := simulator.Span{Min: time.Hour, Max: time.Hour}
	w.fault(t, simulator.Fault{MetadataLag: &simulator.MetadataLagFault{Add: hour}})
	created, err := w.create(t.Context(), pool.Prefix, 3)
	require.NoError(t, err)
	require.Len(t, created.Prefixes, 3)
	more, err := w.client.Assign(t.Context(), created.ID, pool.Prefix, 2)
	require.NoError(t, err)
	require.Len(t, more, 2)
	require.ElementsMatch(t, append(created.Prefixes, more...), w.podENI(t).Prefixes)

	server := httptest.NewServer(w.cloud.IMDS(func(netip.Addr) (string, bool) { return w.client.InstanceID, true }))
	t.Cleanup(server.Close)
	t.Setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", server.URL)
	interfaces, err := imds.New(aws.Config{}).Interfaces(t.Context())
	require.NoError(t, err)
	require.Len(t, interfaces, 1, "the service knows of the primary ENI only")
}
