// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"
	"net/http"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// MetadataLagFault lets IMDS follow changes of interfaces and addresses later than it does.
type MetadataLagFault struct {
	perCall // a strike is a change that IMDS tells late

	Instance string `json:"instance,omitempty"` // default: all
	Add      Span   `json:"add"`
}

func (*MetadataLagFault) kind() string { return "metadataLag" }

func (m *MetadataLagFault) describe() string {
	of := m.Instance
	if of == "" {
		of = "every instance"
	}
	return fmt.Sprintf("IMDS of %s is %s late", of, m.Add)
}

func (m *MetadataLagFault) begin(c *Cloud, _ *activeFault) error {
	if m.Add.Max <= 0 {
		return faultError("metadataLag needs add, as \"10s\" or \"1s-3s\"")
	}
	if m.Instance != "" && c.instances.get(m.Instance) == nil {
		return errNoInstance(m.Instance)
	}
	return nil
}

// publishAfter lets IMDS tell of an attached interface as it is then.
func (c *Cloud) publishAfter(s Span, n *networkInterface) {
	a := n.attachment
	if a == nil || a.instance == nil {
		return
	}
	late := false
	c.active(func(f *activeFault) bool {
		if lag := f.MetadataLag; lag != nil && (lag.Instance == "" || lag.Instance == a.instance.id) {
			add := lag.Add.draw(f.random)
			s, late = Span{s.Min + add, s.Max + add}, true
			c.strike(f)
		}
		return true
	})
	publish := func() {
		if n.attachment == a && a.status == ec2types.AttachmentStatusAttached {
			n.publish()
		}
	}
	if s.Max <= 0 && !late {
		publish()
		return
	}
	c.after(s, publish)
}

// MetadataErrorFault makes IMDS answer an error, or nothing at all.
type MetadataErrorFault struct {
	perCall

	Instance string  `json:"instance,omitempty"` // default: all
	Status   int     `json:"status,omitempty"`   // HTTP; default: none, the connection is closed without an answer
	Rate     float64 `json:"rate,omitempty"`     // share of the requests, 0 to 1; default: all
}

func (*MetadataErrorFault) kind() string { return "metadataError" }

func (m *MetadataErrorFault) describe() string {
	of, answer := m.Instance, "does not answer"
	if of == "" {
		of = "every instance"
	}
	if m.Status != 0 {
		answer = fmt.Sprintf("answers %d", m.Status)
	}
	return fmt.Sprintf("IMDS of %s %s", of, answer) + ofCalls(m.Rate)
}

func (m *MetadataErrorFault) begin(c *Cloud, _ *activeFault) error {
	if m.Status != 0 && (m.Status < 400 || m.Status > 599) {
		return faultError("metadataError: status %d is none of HTTP's for an error", m.Status)
	}
	if m.Instance != "" && c.instances.get(m.Instance) == nil {
		return errNoInstance(m.Instance)
	}
	return checkRate(m.Rate)
}

// failMetadata answers a request to IMDS that a fault strikes.
func (c *Cloud) failMetadata(w http.ResponseWriter, i *instance) (failed bool) {
	var struck *activeFault
	c.active(func(f *activeFault) bool {
		if m := f.MetadataError; m != nil && (m.Instance == "" || m.Instance == i.id) && f.hits(m.Rate) {
			struck = f
		}
		return struck == nil
	})
	if struck == nil {
		return false
	}
	c.strike(struck)
	if struck.MetadataError.Status == 0 {
		panic(http.ErrAbortHandler) // the server closes the connection and says nothing
	}
	w.WriteHeader(struck.MetadataError.Status)
	return true
}
