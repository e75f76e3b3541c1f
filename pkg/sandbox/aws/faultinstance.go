// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"time"

	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// KillFault lets an instance die without anybody's call. It is gone: EC2 says shutting-down, then terminated. Or it hangs: its
// processes stand still, EC2 goes on saying running, and its instance status check fails, until the fault ends.
type KillFault struct {
	Instance string `json:"instance"`
	Hang     bool   `json:"hang,omitempty"`
}

func (*KillFault) kind() string  { return "kill" }
func (*KillFault) repeats() bool { return false }
func (k *KillFault) lasts() bool { return k.Hang }

func (k *KillFault) describe() string {
	if k.Hang {
		return k.Instance + " hangs"
	}
	return k.Instance + " dies"
}

func errNoInstance(id string) error {
	return faultError("there is no instance %q: DescribeInstances lists them", id)
}

func (k *KillFault) begin(c *Cloud, _ *activeFault) error {
	i := c.instances.get(k.Instance)
	switch {
	case i == nil:
		return errNoInstance(k.Instance)
	case i.state != ec2types.InstanceStateNameRunning:
		return faultError("instance %s is %s, not running", i.id, i.state)
	case k.Hang && !i.hungSince.IsZero():
		return faultError("instance %s hangs already", i.id)
	case k.Hang:
		i.hungSince = time.Now().UTC().Truncate(time.Second)
		return nil
	}
	// EC2 has no code for a machine that broke; this is the one for a machine that went down by itself.
	c.terminate(i, stateReason{code: "Client.InstanceInitiatedShutdown", message: "Client.InstanceInitiatedShutdown: Instance initiated shutdown"})
	return nil
}

func (k *KillFault) end(c *Cloud, _ *activeFault) {
	if i := c.instances.get(k.Instance); i != nil {
		i.hungSince = time.Time{}
	}
}
