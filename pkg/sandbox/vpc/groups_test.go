// SPDX-License-Identifier: Apache-2.0

package vpc_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/vpc"
)

// grouped is twoInstances with other groups: a client's that may only send, a server's that lets in what rules allow.
func grouped(rules ...aws.Rule) aws.Snapshot {
	s := twoInstances()
	s.SecurityGroups = []aws.SecurityGroup{
		{ID: "sg-client", VPCID: "vpc-1", Egress: []aws.Rule{everything}},
		{ID: "sg-server", VPCID: "vpc-1", Ingress: rules, Egress: []aws.Rule{}},
		{ID: "sg-other", VPCID: "vpc-1", Egress: []aws.Rule{everything}},
	}
	hold(&s, 0, "sg-server")
	hold(&s, 1, "sg-client")
	hold(&s, 2, "sg-server")
	return s
}

func hold(s *aws.Snapshot, eni int, groups ...string) { s.Interfaces[eni].Groups = groups }

func tcp(first, last int32, groups ...string) aws.Rule {
	return aws.Rule{Protocol: "tcp", FromPort: first, ToPort: last, Groups: groups}
}

func TestAPodIsReachedOnlyWithTheRightGroup(t *testing.T) {
	n := start(t)
	s := grouped()
	require.NoError(t, n.Apply(s))
	whoami(t, pod(t, n, "i-a", "100.64.0.20"), "100.64.0.20:80")
	ask := func() (string, error) { return get(n.InstancePath("i-b"), "", "http://100.64.0.20:80") }

	_, err := ask()
	require.ErrorContains(t, err, "timeout", "no rule lets it in, and no answer tells so")

	require.NoError(t, n.Apply(grouped(tcp(80, 80, "sg-client"))))
	seen, err := ask()
	require.NoError(t, err, "replies pass, although the client's group lets nothing in and the server's nothing out")
	require.Equal(t, "10.0.1.10", seen)

	s = grouped(tcp(80, 80, "sg-client"))
	hold(&s, 1, "sg-other")
	require.NoError(t, n.Apply(s))
	_, err = ask()
	require.Error(t, err, "the client lost its group")

	hold(&s, 1, "sg-other", "sg-client")
	require.NoError(t, n.Apply(s))
	_, err = ask()
	require.NoError(t, err, "one of several groups allows it")
}

func TestRulesNamePeersProtocolsAndPorts(t *testing.T) {
	cidr := func(p string) aws.Rule {
		return aws.Rule{Protocol: "tcp", FromPort: 0, ToPort: 65535, CIDRs: []netip.Prefix{prefix(p)}}
	}
	for _, test := range []struct {
		name   string
		rule   aws.Rule
		passes bool
	}{
		{"the block of the client", cidr("10.0.1.0/24"), true},
		{"the client alone", cidr("10.0.1.10/32"), true},
		{"another block", cidr("10.0.2.0/23"), false},
		{"all", cidr("0.0.0.0/0"), true},
		{"a range of ports around it", tcp(79, 81, "sg-client"), true},
		{"another port", tcp(81, 8080, "sg-client"), false},
		{"another protocol", aws.Rule{Protocol: "udp", FromPort: 0, ToPort: 65535, Groups: []string{"sg-client"}}, false},
		{"the protocol's number", aws.Rule{Protocol: "6", FromPort: -1, ToPort: -1, Groups: []string{"sg-client"}}, true},
		{"the server's own group", aws.Rule{Protocol: "-1", FromPort: -1, ToPort: -1, Groups: []string{"sg-server"}}, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			n := start(t)
			require.NoError(t, n.Apply(grouped(test.rule)))
			whoami(t, n.InstancePath("i-a"), "10.0.0.10:80")
			_, err := get(n.InstancePath("i-b"), "", "http://10.0.0.10:80")
			if test.passes {
				require.NoError(t, err)
			} else {
				require.Error(t, err)
			}
		})
	}
}

func TestAGroupThatIsAPeerMeansThePrefixesOfItsENIsToo(t *testing.T) {
	n := start(t)
	s := grouped()
	s.SecurityGroups[0].Ingress = []aws.Rule{tcp(80, 80, "sg-pods")}
	hold(&s, 2, "sg-pods")
	s.SecurityGroups = append(s.SecurityGroups, aws.SecurityGroup{ID: "sg-pods", VPCID: "vpc-1", Egress: []aws.Rule{tcp(80, 80, "sg-client")}})
	require.NoError(t, n.Apply(s))
	whoami(t, n.InstancePath("i-b"), "10.0.1.10:80")
	whoami(t, n.InstancePath("i-b"), "10.0.1.10:81")
	from := pod(t, n, "i-a", "100.64.0.20")
	seen, err := get(from, "", "http://10.0.1.10:80")
	require.NoError(t, err)
	require.Equal(t, "100.64.0.20", seen)

	s.SecurityGroups[0].Ingress = []aws.Rule{everything}
	require.NoError(t, n.Apply(s))
	_, err = get(from, "", "http://10.0.1.10:81")
	require.Error(t, err, "the pods' group lets nothing out to this port")
}

// connected is a connection from the second instance to the first, and what tells whether a byte comes back on it.
func connected(t *testing.T, n *vpc.Network) (echo func() error) {
	t.Helper()
	listener, err := netns.Listen(n.InstancePath("i-a"), "10.0.0.10:80")
	require.NoError(t, err)
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }()
		}
	}()
	var conn net.Conn
	require.NoError(t, netns.Do(n.InstancePath("i-b"), func() error {
		conn, err = net.DialTimeout("tcp", "10.0.0.10:80", 2*time.Second)
		return err
	}))
	t.Cleanup(func() { conn.Close() })
	return func() error {
		require.NoError(t, conn.SetDeadline(time.Now().Add(3*time.Second)))
		if _, err := conn.Write([]byte("x")); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, make([]byte, 1))
		return err
	}
}

func TestAConnectionLivesOnWhenItsRuleGoes(t *testing.T) {
	n := start(t)
	require.NoError(t, n.Apply(grouped(tcp(80, 80, "sg-client"))))
	echo := connected(t, n)
	require.NoError(t, echo())
	require.NoError(t, n.Apply(grouped()))
	require.NoError(t, echo())
	s := grouped()
	hold(&s, 0, "sg-other")
	require.NoError(t, n.Apply(s))
	require.NoError(t, echo(), "nor when the ENI gets other groups")
	_, err := get(n.InstancePath("i-b"), "", "http://10.0.0.10:80")
	require.Error(t, err, "a new one is refused")
}

func TestAConnectionDoesNotPassToTheNextENIWithTheAddress(t *testing.T) {
	n := start(t)
	require.NoError(t, n.Apply(grouped(tcp(80, 80, "sg-client"))))
	echo := connected(t, n)
	require.NoError(t, echo())
	s := grouped()
	s.Interfaces[0].ID, s.Interfaces[0].MAC = "eni-00000000000000009", mac(9)
	require.NoError(t, n.Apply(s))
	require.Error(t, echo())
}

// TestTheDefaultGroupLetsItsMembersTalk has the rules that EC2 gives a VPC's default group.
func TestTheDefaultGroupLetsItsMembersTalk(t *testing.T) {
	n := start(t)
	s := twoInstances()
	own := aws.Rule{Protocol: "-1", FromPort: -1, ToPort: -1, Groups: []string{"sg-default"}}
	s.SecurityGroups = append(s.SecurityGroups, aws.SecurityGroup{ID: "sg-default", VPCID: "vpc-1", Ingress: []aws.Rule{own}, Egress: []aws.Rule{everything}})
	hold(&s, 0, "sg-default")
	hold(&s, 1, "sg-default")
	require.NoError(t, n.Apply(s))
	whoami(t, n.InstancePath("i-a"), "10.0.0.10:80")
	_, err := get(n.InstancePath("i-b"), "", "http://10.0.0.10:80")
	require.NoError(t, err)
	hold(&s, 1, "sg-all")
	require.NoError(t, n.Apply(s))
	_, err = get(n.InstancePath("i-b"), "", "http://10.0.0.10:80")
	require.Error(t, err, "others are kept out, whatever they may send")
}

func TestUDPIsFilteredToo(t *testing.T) {
	n := start(t)
	udp := aws.Rule{Protocol: "udp", FromPort: 53, ToPort: 53, Groups: []string{"sg-client"}}
	require.NoError(t, n.Apply(grouped(udp)))
	for port, passes := range map[int]bool{53: true, 54: false} {
		var server net.PacketConn
		require.NoError(t, netns.Do(n.InstancePath("i-a"), func() (err error) {
			server, err = net.ListenPacket("udp4", fmt.Sprintf("10.0.0.10:%d", port))
			return err
		}))
		defer server.Close()
		go func() {
			buffer := make([]byte, 10)
			if n, from, err := server.ReadFrom(buffer); err == nil {
				_, _ = server.WriteTo(buffer[:n], from)
			}
		}()
		require.NoError(t, netns.Do(n.InstancePath("i-b"), func() error {
			conn, err := net.Dial("udp4", fmt.Sprintf("10.0.0.10:%d", port))
			require.NoError(t, err)
			defer conn.Close()
			_, err = conn.Write([]byte("x"))
			require.NoError(t, err)
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(time.Second)))
			_, err = conn.Read(make([]byte, 1))
			require.Equal(t, passes, err == nil, "port %d: %v", port, err)
			return nil
		}))
	}
}

func TestTheMetadataServiceIsNotFiltered(t *testing.T) {
	n := start(t)
	s := grouped()
	s.SecurityGroups[0].Egress = nil
	require.NoError(t, n.Apply(s))
	require.NoError(t, n.ServeMetadata(func(string) http.Handler { return http.NotFoundHandler() }))
	require.NoError(t, netns.Do(n.InstancePath("i-b"), func() error {
		conn, err := net.DialTimeout("tcp", vpc.MetadataAddress+":80", 2*time.Second)
		if err == nil {
			conn.Close()
		}
		return err
	}))
}

func TestManyENIsAreAppliedAndFiltered(t *testing.T) {
	n := start(t)
	s := grouped(tcp(80, 80, "sg-client"))
	for i := range 500 {
		address := netip.AddrFrom4([4]byte{100, 64, byte(64 + i/250), byte(1 + i%250)})
		last := eni(fmt.Sprintf("eni-%017x", 0x100+i), "subnet-pa", address.String(), 0, "", 0, netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64, byte(128 + i/16), byte(i % 16 << 4)}), 28))
		last.Groups, last.Attachment = []string{"sg-client"}, nil
		s.Interfaces = append(s.Interfaces, last)
	}
	require.NoError(t, n.Apply(s))
	whoami(t, n.InstancePath("i-a"), "10.0.0.10:80")
	_, err := get(n.InstancePath("i-b"), "", "http://10.0.0.10:80")
	require.NoError(t, err)

	s.Interfaces = slices.Delete(s.Interfaces, 4, 400) // elements go one by one
	require.NoError(t, n.Apply(s))
	_, err = get(n.InstancePath("i-b"), "", "http://10.0.0.10:80")
	require.NoError(t, err)
}
