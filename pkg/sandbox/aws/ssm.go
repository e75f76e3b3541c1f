// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"net/http"
)

type getParameterInput struct{ Name string }

type getParameterOutput struct{ Parameter ssmParameter }

type ssmParameter struct {
	Name, Value, Type, ARN, DataType string
	Version                          int
	LastModifiedDate                 float64 // seconds since 1970
}

// getParameter knows the public parameters of EKS's and Bottlerocket's images.
func (c *Cloud) getParameter(_ *http.Request, in getParameterInput) (getParameterOutput, error) {
	id, ok := parameter(in.Name)
	if !ok {
		return getParameterOutput{}, clientError("ParameterNotFound", "Parameter %s not found.", in.Name)
	}
	return getParameterOutput{Parameter: ssmParameter{
		Name: in.Name, Value: id, Type: "String", DataType: "text", Version: 1, ARN: "arn:aws:ssm:" + c.region + "::parameter" + in.Name,
		LastModifiedDate: 1785952800, // the day of the newest release
	}}, nil
}
