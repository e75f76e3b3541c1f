// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func cliInstances(t *testing.T, c cli, a account) {
	var ids []string
	check(t, "run-instances", func(t *testing.T) {
		ids = c.words(t, `ec2 run-instances --image-id %s --instance-type m5.large --count 2 --subnet-id %s --security-group-ids %s --user-data 'hello <&>'
			--tag-specifications 'ResourceType=instance,Tags=[{Key=Name,Value=plain}]' --query Instances[].InstanceId`, a.image, a.subnetA, a.group)
		require.Len(t, ids, 2)
		c.text(t, "ec2 wait instance-running --instance-ids %s", strings.Join(ids, " "))
		c.text(t, "ec2 wait instance-status-ok --instance-ids %s", strings.Join(ids, " "))
	})
	check(t, "describe-instances with --query and --filters", func(t *testing.T) {
		for filter, want := range map[string]int{
			"Name=tag:Name,Values=plain Name=instance-state-name,Values=running": 2,
			"Name=tag:Name,Values=plain Name=instance-type,Values=m5.*":          2,
			"Name=tag:Name,Values=plain Name=instance-state-name,Values=pending": 0,
			"Name=tag:Name,Values=plain Name=subnet-id,Values=" + a.subnetB:      0,
		} {
			require.Len(t, c.words(t, "ec2 describe-instances --filters %s --query Reservations[].Instances[].InstanceId", filter), want, filter)
		}
		require.Equal(t, "plain\tm5.large\trunning\tus-east-1a\t1", c.text(t, `ec2 describe-instances --instance-ids %s
			--query 'Reservations[].Instances[].[Tags[0].Value,InstanceType,State.Name,Placement.AvailabilityZone,length(NetworkInterfaces)]'`, ids[0]))
		require.Equal(t, "[]", mustJSON(t, c, "ec2 describe-instances --filters Name=tag:Name,Values=none --query Reservations"))
	})
	check(t, "user data comes back as it was given", func(t *testing.T) {
		encoded := c.text(t, "ec2 describe-instance-attribute --instance-id %s --attribute userData --query UserData.Value", ids[0])
		plain, err := base64.StdEncoding.DecodeString(encoded)
		require.NoError(t, err)
		require.Equal(t, "hello <&>", string(plain))
	})
	check(t, "run-instances refuses", func(t *testing.T) {
		c.refused(t, "InvalidParameterCombination", "RunInstances", "Network interfaces and an instance-level subnet ID may not be specified on the same request",
			"ec2 run-instances --image-id %s --instance-type m5.large --subnet-id %s --network-interfaces DeviceIndex=0,SubnetId=%[2]s", a.image, a.subnetA)
		_, errs, code := c.run(t, "ec2 run-instances --image-id ami-0123456789abcdef0 --instance-type m5.large --subnet-id %s", a.subnetA)
		require.Equal(t, 254, code)
		require.Contains(t, errs, "(InvalidAMIID.NotFound) when calling the RunInstances operation")
	})
	check(t, "a client token launches once", func(t *testing.T) {
		const launch = "ec2 run-instances --image-id %s --instance-type %s --subnet-id %s --client-token once --query Instances[].InstanceId"
		first := c.text(t, launch, a.image, "m5.large", a.subnetA)
		require.Equal(t, first, c.text(t, launch, a.image, "m5.large", a.subnetA))
		_, errs, _ := c.run(t, launch, a.image, "m5.xlarge", a.subnetA)
		require.Contains(t, errs, "(IdempotentParameterMismatch) when calling the RunInstances operation")
		ids = append(ids, first)
	})
	check(t, "terminate-instances", func(t *testing.T) {
		all := strings.Join(ids, " ")
		require.Subset(t, []string{"shutting-down", "terminated"}, c.words(t, "ec2 terminate-instances --instance-ids %s --query TerminatingInstances[].CurrentState.Name", all))
		c.text(t, "ec2 wait instance-terminated --instance-ids %s", all)
		c.text(t, "ec2 terminate-instances --instance-ids %s", all) // once more does no harm
		require.Equal(t, "[]", mustJSON(t, c, "ec2 describe-network-interfaces --filters Name=attachment.instance-id,Values=%s --query NetworkInterfaces", ids[0]))
	})
}

func mustJSON(t *testing.T, c cli, line string, values ...any) string {
	t.Helper()
	var raw json.RawMessage
	c.json(t, &raw, line, values...)
	return string(raw)
}

func cliAttachments(t *testing.T, c cli, a account) {
	newInterface := func(t *testing.T, subnet, more string) string {
		return c.text(t, "ec2 create-network-interface --subnet-id %s %s --query NetworkInterface.NetworkInterfaceId", subnet, more)
	}
	instance := c.text(t, "ec2 run-instances --image-id %s --instance-type m5.large --subnet-id %s --query Instances[].InstanceId", a.image, a.subnetA)
	c.text(t, "ec2 wait instance-running --instance-ids %s", instance)
	first := newInterface(t, a.subnetA, "")
	var attachment string
	check(t, "attach-network-interface", func(t *testing.T) {
		attachment = c.text(t, "ec2 attach-network-interface --network-interface-id %s --instance-id %s --device-index 1 --query AttachmentId", first, instance)
		require.Regexp(t, "^eni-attach-", attachment)
		require.Equal(t, "in-use\t"+instance+"\t1\tFalse", c.text(t, `ec2 describe-network-interfaces --network-interface-ids %s
			--query 'NetworkInterfaces[].[Status,Attachment.InstanceId,Attachment.DeviceIndex,Attachment.DeleteOnTermination]'`, first))
	})
	check(t, "attach refuses a taken device index, another zone, what is attached, and one interface too many", func(t *testing.T) {
		const attach = "ec2 attach-network-interface --network-interface-id %s --instance-id %s --device-index %d"
		c.refused(t, "InvalidParameterValue", "AttachNetworkInterface", "Instance '"+instance+"' already has an interface attached at device index '1'.",
			attach, newInterface(t, a.subnetA, ""), instance, 1)
		c.refused(t, "InvalidParameterCombination", "AttachNetworkInterface",
			"You may not attach a network interface to an instance if they are not in the same availability zone", attach, newInterface(t, a.subnetB, ""), instance, 2)
		_, errs, code := c.run(t, attach, first, instance, 2)
		require.Equal(t, 254, code)
		require.Contains(t, errs, "(InvalidNetworkInterface.InUse) when calling the AttachNetworkInterface operation")
		c.text(t, attach, newInterface(t, a.subnetA, ""), instance, 2)
		c.refused(t, "AttachmentLimitExceeded", "AttachNetworkInterface", "Interface count 4 exceeds the limit for m5.large", attach, newInterface(t, a.subnetA, ""), instance, 3)
	})
	check(t, "assign stops at the type's addresses", func(t *testing.T) {
		c.text(t, "ec2 assign-private-ip-addresses --network-interface-id %s --ipv4-prefix-count 9", first)
		c.refused(t, "PrivateIpAddressLimitExceeded", "AssignPrivateIpAddresses", "Number of private addresses will exceed limit.",
			"ec2 assign-private-ip-addresses --network-interface-id %s --ipv4-prefix-count 1", first)
	})
	check(t, "modify-network-interface-attribute", func(t *testing.T) {
		c.text(t, "ec2 modify-network-interface-attribute --network-interface-id %s --attachment AttachmentId=%s,DeleteOnTermination=true", first, attachment)
		c.text(t, "ec2 modify-network-interface-attribute --network-interface-id %s --no-source-dest-check", first)
		require.Equal(t, "True\tFalse", c.text(t, "ec2 describe-network-interfaces --network-interface-ids %s --query 'NetworkInterfaces[].[Attachment.DeleteOnTermination,SourceDestCheck]'", first))
	})
	check(t, "delete refuses what is attached, detach the primary", func(t *testing.T) {
		c.refused(t, "InvalidParameterValue", "DeleteNetworkInterface", "Network interface '"+first+"' is currently in use.", "ec2 delete-network-interface --network-interface-id %s", first)
		primary := c.text(t, `ec2 describe-instances --instance-ids %s --query "Reservations[].Instances[].NetworkInterfaces[?Attachment.DeviceIndex==\`+"`0`"+`][].Attachment.AttachmentId"`, instance)
		_, errs, code := c.run(t, "ec2 detach-network-interface --attachment-id %s", primary)
		require.Equal(t, 254, code)
		require.Contains(t, errs, "(OperationNotPermitted) when calling the DetachNetworkInterface operation")
	})
	check(t, "detach-network-interface, then delete", func(t *testing.T) {
		c.text(t, "ec2 detach-network-interface --attachment-id %s", attachment)
		c.text(t, "ec2 wait network-interface-available --network-interface-ids %s", first)
		c.text(t, "ec2 delete-network-interface --network-interface-id %s", first)
	})
	check(t, "a hot-attached interface outlives its instance", func(t *testing.T) {
		left := c.text(t, "ec2 describe-network-interfaces --filters Name=attachment.instance-id,Values=%s Name=attachment.device-index,Values=2 --query NetworkInterfaces[].NetworkInterfaceId", instance)
		c.text(t, "ec2 terminate-instances --instance-ids %s", instance)
		c.text(t, "ec2 wait instance-terminated --instance-ids %s", instance)
		c.text(t, "ec2 wait network-interface-available --network-interface-ids %s", left)
	})
}

func cliFleet(t *testing.T, c cli, a account) {
	const spec = "--target-capacity-specification TotalTargetCapacity=%d,DefaultTargetCapacityType=%s"
	check(t, "create-launch-template", func(t *testing.T) {
		data, err := json.Marshal(map[string]any{
			"ImageId": a.image, "UserData": base64.StdEncoding.EncodeToString([]byte("hello")), "SecurityGroupIds": []string{a.group},
			"TagSpecifications": []any{map[string]any{"ResourceType": "instance", "Tags": []any{map[string]any{"Key": "from", "Value": "template"}}}},
		})
		require.NoError(t, err)
		require.Equal(t, "fleet\t1", c.text(t, "ec2 create-launch-template --launch-template-name fleet --launch-template-data '%s' --query 'LaunchTemplate.[LaunchTemplateName,LatestVersionNumber]'", data))
		_, errs, _ := c.run(t, "ec2 create-launch-template --launch-template-name fleet --launch-template-data '%s'", data)
		require.Contains(t, errs, "(InvalidLaunchTemplateName.AlreadyExistsException) when calling the CreateLaunchTemplate operation")
		require.Equal(t, "fleet", c.text(t, "ec2 describe-launch-templates --launch-template-names fleet --query LaunchTemplates[].LaunchTemplateName"))
	})
	configs := func(overrides ...map[string]any) string {
		content, _ := json.Marshal([]any{map[string]any{ // maps of strings always encode
			"LaunchTemplateSpecification": map[string]any{"LaunchTemplateName": "fleet", "Version": "$Latest"}, "Overrides": overrides,
		}})
		return string(content)
	}
	var ids []string
	check(t, "create-fleet instant", func(t *testing.T) {
		var out struct {
			FleetID   string `json:"FleetId"`
			Errors    []any
			Instances []struct {
				InstanceIDs  []string `json:"InstanceIds"`
				InstanceType string
				Lifecycle    string
			}
		}
		c.json(t, &out, "ec2 create-fleet --type instant --launch-template-configs '%s' --on-demand-options AllocationStrategy=lowest-price "+spec,
			configs(map[string]any{"InstanceType": "m5.xlarge", "SubnetId": a.subnetA}, map[string]any{"InstanceType": "m5.large", "SubnetId": a.subnetB}), 2, "on-demand")
		require.NotNil(t, out.Errors)
		require.Empty(t, out.Errors)
		require.Len(t, out.Instances, 1)
		require.Equal(t, "m5.large", out.Instances[0].InstanceType, "the lowest price")
		require.Equal(t, "on-demand", out.Instances[0].Lifecycle)
		require.Len(t, out.Instances[0].InstanceIDs, 2)
		ids = out.Instances[0].InstanceIDs
		c.text(t, "ec2 wait instance-running --instance-ids %s", strings.Join(ids, " "))
		require.Equal(t, out.FleetID+"\ttemplate", c.text(t, `ec2 describe-instances --instance-ids %s
			--query "Reservations[].Instances[].[Tags[?Key=='aws:ec2:fleet-id']|[0].Value,Tags[?Key=='from']|[0].Value]"`, ids[0]))
	})
	check(t, "create-fleet spot", func(t *testing.T) {
		spot := c.words(t, "ec2 create-fleet --type instant --launch-template-configs '%s' --spot-options AllocationStrategy=price-capacity-optimized --query Instances[].InstanceIds[] "+spec,
			configs(map[string]any{"InstanceType": "m5.large", "SubnetId": a.subnetA}), 1, "spot")
		require.Len(t, spot, 1)
		c.text(t, "ec2 wait instance-running --instance-ids %s", spot[0])
		require.Equal(t, "spot", c.text(t, "ec2 describe-instances --instance-ids %s --query Reservations[].Instances[].InstanceLifecycle", spot[0]))
		ids = append(ids, spot...)
	})
	check(t, "create-fleet reports errors beside instances", func(t *testing.T) {
		require.Equal(t, "InvalidAMIID.NotFound\tm5.large", c.text(t, "ec2 create-fleet --type instant --launch-template-configs '%s' --query 'Errors[].[ErrorCode,LaunchTemplateAndOverrides.Overrides.InstanceType]' "+spec,
			configs(map[string]any{"InstanceType": "m5.large", "SubnetId": a.subnetA, "ImageId": "ami-0123456789abcdef0"}), 1, "on-demand"))
	})
	check(t, "create-fleet refuses one pool twice, and a template that does not exist", func(t *testing.T) {
		c.refused(t, "InvalidFleetConfig", "CreateFleet", "The fleet configuration contains duplicate instance pools.", "ec2 create-fleet --type instant --launch-template-configs '%s' "+spec,
			configs(map[string]any{"InstanceType": "m5.large", "SubnetId": a.subnetA}, map[string]any{"InstanceType": "m5.large", "SubnetId": a.subnetA}), 1, "on-demand")
		_, errs, code := c.run(t, "ec2 create-fleet --type instant --launch-template-configs '%s' "+spec, strings.ReplaceAll(configs(map[string]any{"InstanceType": "m5.large", "SubnetId": a.subnetA}), "fleet", "other"), 1, "on-demand")
		require.Equal(t, 254, code)
		require.Contains(t, errs, "(InvalidLaunchTemplateName.NotFoundException) when calling the CreateFleet operation")
	})
	check(t, "delete-launch-template leaves the instances, terminate ends them", func(t *testing.T) {
		c.text(t, "ec2 delete-launch-template --launch-template-name fleet")
		_, errs, _ := c.run(t, "ec2 describe-launch-templates --launch-template-names fleet")
		require.Contains(t, errs, "(InvalidLaunchTemplateName.NotFoundException) when calling the DescribeLaunchTemplates operation")
		c.text(t, "ec2 terminate-instances --instance-ids %s", strings.Join(ids, " "))
		c.text(t, "ec2 wait instance-terminated --instance-ids %s", strings.Join(ids, " "))
	})
}
