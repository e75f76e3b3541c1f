// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"

	"github.com/vishvananda/netlink"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// InternetMTU is the largest packet that leaves a VPC for the internet.
const InternetMTU = 1500

// Addresses on the internet side, from the ranges for documentation.
var (
	// AWSEndpoint is where the AWS APIs are served.
	AWSEndpoint = netip.MustParseAddr("203.0.113.10")
	// InternetHost answers HTTP requests with the address that it sees.
	InternetHost = netip.MustParseAddr("203.0.113.80")

	everywhere = netip.MustParsePrefix("0.0.0.0/0")
)

// connectAWS joins the internet with the namespace that called New.
func (n *Network) connectAWS() error {
	if err := join(linkEnd{n.InternetPath(), awsName}, linkEnd{n.AWSPath(), uplink}, InternetMTU); err != nil {
		return err
	}
	side := func(path string, own netip.Addr, link string, others netip.Prefix) error {
		return netns.Do(path, func() error {
			if err := addAddress("lo", host(own).String()); err != nil {
				return err
			}
			route, err := through(link, neighbor, others)
			if err != nil {
				return err
			}
			route.Src = own.AsSlice()
			return netlink.RouteReplace(&route)
		})
	}
	return errors.Join(
		netns.Do(n.InternetPath(), becomeRouter),
		side(n.InternetPath(), InternetHost, awsName, host(AWSEndpoint)),
		side(n.AWSPath(), AWSEndpoint, uplink, publicSpace),
		side(n.AWSPath(), AWSEndpoint, uplink, host(InternetHost)),
	)
}

// publicSpace holds the account's public addresses: see the pool in pkg/sandbox/aws.
var publicSpace = netip.MustParsePrefix("198.51.100.0/24")

// becomeRouter sets what a namespace that forwards needs, before it gets links.
func becomeRouter() error {
	var errs []error
	for _, setting := range [][2]string{
		{"ip_forward", "1"},
		// Sources are judged by rules, and what goes out by the link that it came from is no reason for advice.
		{"conf/all/rp_filter", "0"}, {"conf/default/rp_filter", "0"},
		{"conf/all/send_redirects", "0"}, {"conf/default/send_redirects", "0"},
		{"conf/all/accept_local", "1"}, // a router's ICMP errors come back to it from a NAT gateway
	} {
		errs = append(errs, netns.Sysctl("ipv4/"+setting[0], setting[1]))
	}
	return errors.Join(errs...)
}

// applyInternet sends each public address to the VPC that has it.
func (n *Network) applyInternet(s aws.Snapshot) error {
	return netns.Do(n.InternetPath(), func() error {
		wanted := routes{}
		for _, vpc := range s.VPCs {
			for public := range publicAddresses(scope(s, vpc.ID)) {
				route, err := through(shortName("v", vpc.ID), neighbor, host(public))
				if err != nil {
					return err
				}
				route.Src = InternetHost.AsSlice()
				wanted.add(mainTable, route)
			}
		}
		return wanted.apply()
	})
}

func (n *Network) serveEcho() error {
	listener, err := netns.Listen(n.InternetPath(), InternetHost.String()+":80")
	if err != nil {
		return fmt.Errorf("internet host: %w", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(tellWho)}
	n.hosts = append(n.hosts, server)
	go func() { _ = server.Serve(listener) }() // ends with Close
	return nil
}

// tellWho answers with the address that it sees.
func tellWho(w http.ResponseWriter, r *http.Request) {
	remote, _, _ := net.SplitHostPort(r.RemoteAddr)
	_, _ = io.WriteString(w, remote) // a client that is gone needs no answer
}
