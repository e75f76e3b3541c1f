// SPDX-License-Identifier: Apache-2.0

package clients_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func cliOtherServices(t *testing.T, c cli, _ account) {
	check(t, "sts get-caller-identity", func(t *testing.T) {
		require.Regexp(t, `^123456789012\tarn:aws:iam::123456789012:user/\w+$`, c.text(t, "sts get-caller-identity --query '[Account,Arn]'"))
	})
	check(t, "ssm get-parameter", func(t *testing.T) {
		require.Regexp(t, `^ami-[0-9a-f]{17}\tString\t20\d\d-`, c.text(t, "ssm get-parameter --name %s --query 'Parameter.[Value,Type,LastModifiedDate]'", image))
		_, errs, code := c.run(t, "ssm get-parameter --name /none")
		require.Equal(t, 254, code)
		require.Contains(t, errs, "(ParameterNotFound) when calling the GetParameter operation")
	})
	check(t, "iam roles and instance profiles", func(t *testing.T) {
		const policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`
		require.Equal(t, "arn:aws:iam::123456789012:role/node", c.text(t, "iam create-role --role-name node --assume-role-policy-document '%s' --query Role.Arn", policy))
		require.Equal(t, "ec2.amazonaws.com", c.text(t, "iam get-role --role-name node --query Role.AssumeRolePolicyDocument.Statement[0].Principal.Service"))
		c.text(t, "iam create-instance-profile --instance-profile-name nodes --path /clients/ --tags Key=a,Value=b")
		c.text(t, "iam add-role-to-instance-profile --instance-profile-name nodes --role-name node")
		c.text(t, "iam wait instance-profile-exists --instance-profile-name nodes")
		require.Equal(t, "/clients/\tnode\tb", c.text(t, "iam get-instance-profile --instance-profile-name nodes --query 'InstanceProfile.[Path,Roles[0].RoleName,Tags[0].Value]'"))
		require.Equal(t, "nodes", c.text(t, "iam list-instance-profiles --path-prefix /clients/ --query InstanceProfiles[].InstanceProfileName"))
		c.refused(t, "EntityAlreadyExists", "CreateInstanceProfile", "Instance Profile nodes already exists.", "iam create-instance-profile --instance-profile-name nodes")
		c.refused(t, "DeleteConflict", "DeleteInstanceProfile", "Cannot delete entity, must remove roles from instance profile first.", "iam delete-instance-profile --instance-profile-name nodes")
		c.text(t, "iam remove-role-from-instance-profile --instance-profile-name nodes --role-name node")
		c.text(t, "iam delete-instance-profile --instance-profile-name nodes")
		c.refused(t, "NoSuchEntity", "GetInstanceProfile", "Instance Profile nodes cannot be found.", "iam get-instance-profile --instance-profile-name nodes")
	})
	check(t, "eks describe-cluster", func(t *testing.T) {
		c.refused(t, "ResourceNotFoundException", "DescribeCluster", "No cluster found for name: none.", "eks describe-cluster --name none")
	})
	check(t, "pricing get-products", func(t *testing.T) {
		document := c.text(t, `pricing get-products --service-code AmazonEC2 --query PriceList[0] --filters Type=TERM_MATCH,Field=instanceType,Value=m5.large
			Type=TERM_MATCH,Field=regionCode,Value=us-east-1 Type=TERM_MATCH,Field=operatingSystem,Value=Linux Type=TERM_MATCH,Field=tenancy,Value=Shared
			Type=TERM_MATCH,Field=preInstalledSw,Value=NA Type=TERM_MATCH,Field=capacitystatus,Value=Used`)
		var item struct {
			Terms struct {
				OnDemand map[string]struct {
					PriceDimensions map[string]struct{ PricePerUnit map[string]string }
				}
			}
		}
		require.NoError(t, json.Unmarshal([]byte(document), &item), document)
		for _, term := range item.Terms.OnDemand {
			for _, dimension := range term.PriceDimensions {
				require.Equal(t, "0.0960000000", dimension.PricePerUnit["USD"])
			}
		}
		require.Len(t, item.Terms.OnDemand, 1)
	})
	check(t, "sqs", func(t *testing.T) {
		c.refused(t, "AWS.SimpleQueueService.NonExistentQueue", "GetQueueUrl", "The specified queue does not exist.", "sqs get-queue-url --queue-name interruptions")
		queue := c.text(t, "sqs create-queue --queue-name interruptions --query QueueUrl")
		require.Equal(t, queue, c.text(t, "sqs get-queue-url --queue-name interruptions --query QueueUrl"))
		c.text(t, `sqs send-message --queue-url %s --message-body '{"detail":"<&>"}'`, queue)
		var received []struct{ Body, ReceiptHandle string }
		c.json(t, &received, "sqs receive-message --queue-url %s --wait-time-seconds 5 --max-number-of-messages 10 --attribute-names SentTimestamp --query Messages", queue)
		require.Len(t, received, 1)
		require.Equal(t, `{"detail":"<&>"}`, received[0].Body)
		c.text(t, "sqs delete-message --queue-url %s --receipt-handle %s", queue, received[0].ReceiptHandle)
	})
}
