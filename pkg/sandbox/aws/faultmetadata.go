// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"fmt"

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
