// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	policies "github.com/dovetail-dev/dovetail/iam"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/awsnode"
)

// ec2Trust lets instances take a role.
const ec2Trust = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// buildRoles makes the roles of the nodes and of the controller with the policies that a user is given, and no other right. The
// controller has its role from the instance profile of the node that it runs on, as there is no EKS Pod Identity here.
func (d *daemon) buildRoles(ctx context.Context) error {
	account, err := sts.NewFromConfig(d.config).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return err
	}
	api := iam.NewFromConfig(d.config)
	names := policies.Names{Partition: "aws", Region: Region, AccountID: aws.ToString(account.Account), ClusterName: ClusterName, InterruptionQueue: ClusterName}
	role := func(name string, allowed ...string) (string, error) {
		out, err := api.CreateRole(ctx, &iam.CreateRoleInput{RoleName: aws.String(name), AssumeRolePolicyDocument: aws.String(ec2Trust)})
		if err != nil {
			return "", err
		}
		for _, policy := range allowed {
			document, err := policies.Document(policy, names)
			if err != nil {
				return "", err
			}
			_, err = api.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: aws.String(name), PolicyName: aws.String(policy), PolicyDocument: aws.String(document)})
			if err != nil {
				return "", err
			}
		}
		return aws.ToString(out.Role.Arn), nil
	}
	if names.NodeRoleARN, err = role(NodeRole, policies.NodeDynamic); err != nil {
		return err
	}
	_, err = role(ControllerRole, policies.Controller, policies.InstanceProfiles, policies.Interruption, policies.Provision, policies.NodeMigration)
	if err != nil {
		return err
	}
	if err := buildProfile(ctx, api, systemProfile, ControllerRole); err != nil {
		return err
	}
	if d.opts.Layout != Exhausted {
		return nil
	}
	for _, name := range []string{NodeRole, ControllerRole} {
		_, err := api.PutRolePolicy(ctx, &iam.PutRolePolicyInput{
			RoleName: aws.String(name), PolicyName: aws.String(awsnode.PolicyName), PolicyDocument: aws.String(awsnode.Policy),
		})
		if err != nil {
			return err
		}
	}
	return buildProfile(ctx, api, appsProfile, NodeRole)
}

// buildProfile makes an instance profile of a node group.
func buildProfile(ctx context.Context, api *iam.Client, name, role string) error {
	if _, err := api.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: aws.String(name)}); err != nil {
		return err
	}
	_, err := api.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: aws.String(name), RoleName: aws.String(role)})
	return err
}
