// SPDX-License-Identifier: Apache-2.0

package vpc_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

// serveWho lets the metadata service answer any request with the instance that asks.
func serveWho(t *testing.T, n *vpc.Network, s *aws.Snapshot) {
	t.Helper()
	require.NoError(t, n.ServeMetadata(func(vpcID string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, _ := vpc.InstanceOf(*s, vpcID, netip.MustParseAddrPort(r.RemoteAddr).Addr())
			_, _ = io.WriteString(w, id)
		})
	}))
}

// metadataFrom a namespace: the answers to requests of these methods on one connection.
func metadataFrom(path string, methods ...string) (answers []string, err error) {
	var conn net.Conn
	err = netns.Do(path, func() (err error) {
		conn, err = net.DialTimeout("tcp", vpc.MetadataAddress+":80", 2*time.Second)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return nil, err
	}
	reader := bufio.NewReader(conn)
	for _, method := range methods {
		request, err := http.NewRequest(method, "http://"+vpc.MetadataAddress, nil)
		if err != nil {
			return answers, err
		}
		if err := request.Write(conn); err != nil {
			return answers, err
		}
		response, err := http.ReadResponse(reader, request)
		if err != nil {
			return answers, err
		}
		body, err := io.ReadAll(response.Body)
		if err != nil {
			return answers, err
		}
		answers = append(answers, string(body))
	}
	return answers, nil
}

func TestTheMetadataServiceKnowsWhoAsks(t *testing.T) {
	n := start(t)
	s := twoInstances()
	require.NoError(t, n.Apply(s))
	serveWho(t, n, &s)
	for _, id := range []string{"i-a", "i-b"} {
		who, err := metadataFrom(n.InstancePath(id), http.MethodPut, http.MethodGet)
		require.NoError(t, err)
		require.Equal(t, []string{id, id}, who)
	}
}

func TestATokenTravelsNoFartherThanTheHopLimit(t *testing.T) {
	n := start(t)
	s := twoInstances()
	s.Instances[0].MetadataHopLimit = 1
	require.NoError(t, n.Apply(s))
	serveWho(t, n, &s)
	from := pod(t, n, "i-a", "100.64.0.20")

	who, err := metadataFrom(from, http.MethodGet, http.MethodPut)
	require.Error(t, err, "a token does not reach a pod")
	require.Equal(t, []string{"i-a"}, who, "other answers do")
	_, err = metadataFrom(n.InstancePath("i-a"), http.MethodPut)
	require.NoError(t, err)

	s.Instances[0].MetadataHopLimit = 2
	require.NoError(t, n.Apply(s))
	who, err = metadataFrom(from, http.MethodPut, http.MethodGet)
	require.NoError(t, err)
	require.Equal(t, []string{"i-a", "i-a"}, who)
}
