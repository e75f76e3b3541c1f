// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
)

// AWS loads the SDK's plain configuration, for a Region or for the one that it names. It fails where there are no credentials.
func AWS(ctx context.Context, region string) (aws.Config, error) {
	var options []func(*config.LoadOptions) error
	if region != "" {
		options = append(options, config.WithRegion(region))
	}
	cfg, err := config.LoadDefaultConfig(ctx, options...)
	if err != nil {
		return cfg, fmt.Errorf("the AWS configuration cannot be loaded: %w", err)
	}
	if _, err := cfg.Credentials.Retrieve(ctx); err != nil {
		return cfg, fmt.Errorf("there are no AWS credentials (set AWS_PROFILE, or log in): %w", err)
	}
	return cfg, nil
}

// inZone matches the Region in a zone's name: us-east-1a, us-gov-west-1b, us-west-2-lax-1a.
var inZone = regexp.MustCompile(`^[a-z]+(-[a-z]+)+-[0-9]+`)

// Region of a zone, "" where its name has none.
func Region(zone string) string { return inZone.FindString(zone) }
