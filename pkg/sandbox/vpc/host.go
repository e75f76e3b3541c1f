// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"fmt"
	"net/http"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// AddHost makes an ENI that no instance owns end in a namespace of its own, with a host that tells who asks it at port 80.
func (n *Network) AddHost(name, interfaceID string) error {
	if err := netns.Create(n.path(name)); err != nil {
		return fmt.Errorf("host %s: %w", name, err)
	}
	listener, err := netns.Listen(n.path(name), ":80")
	if err != nil {
		return fmt.Errorf("host %s: %w", name, err)
	}
	server := &http.Server{Handler: http.HandlerFunc(tellWho)}
	go func() { _ = server.Serve(listener) }() // ends with Close
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts = append(n.hosts, server)
	n.plugged[interfaceID] = port{n.path(name), "eth0"}
	return nil
}
