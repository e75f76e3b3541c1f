// SPDX-License-Identifier: Apache-2.0

package vpc

import (
	"net/http"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/netns"
)

// ServeMetadata answers at the address of the instance metadata service in each VPC. A request's remote address tells the
// instance: see InstanceOf.
func (n *Network) ServeMetadata(handler func(vpcID string) http.Handler) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.metadata = handler
	for id, r := range n.routers {
		if err := n.serveMetadata(id, r); err != nil {
			return err
		}
	}
	return nil
}

func (n *Network) serveMetadata(vpcID string, r *router) error {
	if n.metadata == nil || r.metadata != nil {
		return nil
	}
	listener, err := netns.Listen(r.path, MetadataAddress+":80")
	if err != nil {
		return err
	}
	r.metadata = &http.Server{Handler: n.metadata(vpcID), ReadHeaderTimeout: time.Minute}
	go func() { _ = r.metadata.Serve(listener) }() // ends with the router
	return nil
}
