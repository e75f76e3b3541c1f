// SPDX-License-Identifier: Apache-2.0

package aws

import "net/http"

type getServiceQuotaInput struct{ ServiceCode, QuotaCode string }

type getServiceQuotaOutput struct{ Quota serviceQuota }

type serviceQuota struct {
	ServiceCode, ServiceName, QuotaArn, QuotaCode, QuotaName, Unit string
	Value                                                          float64
	Adjustable, GlobalQuota                                        bool
}

// getServiceQuota knows the quotas of Amazon VPC that the simulator holds to.
func (c *Cloud) getServiceQuota(_ *http.Request, in getServiceQuotaInput) (getServiceQuotaOutput, error) {
	if in.ServiceCode == "" || in.QuotaCode == "" {
		return getServiceQuotaOutput{}, clientError("IllegalArgumentException", "ServiceCode and QuotaCode are required.")
	}
	quota := serviceQuota{ServiceCode: in.ServiceCode, ServiceName: "Amazon Virtual Private Cloud (Amazon VPC)", QuotaCode: in.QuotaCode, Unit: "None", Adjustable: true}
	switch in.ServiceCode + "/" + in.QuotaCode {
	case "vpc/L-DF5E4CA3":
		quota.QuotaName, quota.Value = "Network interfaces per Region", float64(c.quotas.Interfaces)
	case "vpc/L-83CA0A9D":
		quota.QuotaName, quota.Value = "IPv4 CIDR blocks per VPC", maxBlocks
	default:
		return getServiceQuotaOutput{}, clientError("NoSuchResourceException", "The request failed because the specified service quota %s does not exist.", in.QuotaCode)
	}
	quota.QuotaArn = c.arn("servicequotas", in.ServiceCode+"/"+in.QuotaCode)
	return getServiceQuotaOutput{Quota: quota}, nil
}
