// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
)

// instrument measures requests to AWS. It stands behind the SDK's retries: a throttled try counts though the next one
// succeeds.
func (m *metrics) instrument(cfg aws.Config) aws.Config {
	measure := middleware.FinalizeMiddlewareFunc("DovetailMetrics", func(ctx context.Context, in middleware.FinalizeInput, next middleware.FinalizeHandler) (middleware.FinalizeOutput, middleware.Metadata, error) {
		start := time.Now()
		out, metadata, err := next.HandleFinalize(ctx, in)
		m.awsCalls.WithLabelValues(awsmiddleware.GetServiceID(ctx), middleware.GetOperationName(ctx), awsCode(err)).Observe(time.Since(start).Seconds())
		return out, metadata, err
	})
	cfg = cfg.Copy()
	cfg.APIOptions = append(cfg.APIOptions, func(stack *middleware.Stack) error {
		return stack.Finalize.Insert(measure, "Retry", middleware.After)
	})
	return cfg
}

func awsCode(err error) string {
	var api smithy.APIError
	switch {
	case err == nil:
		return "OK"
	case errors.As(err, &api):
		return api.ErrorCode()
	default:
		return "NoAnswer"
	}
}
