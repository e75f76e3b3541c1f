// SPDX-License-Identifier: Apache-2.0

package aws

import (
	"encoding/json"
	"net/http"
	"slices"
	"strconv"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"

	"github.com/dovetail-dev/dovetail/pkg/sandbox/aws/instancetypes"
)

type productFilter struct{ Field, Type, Value string }

type getProductsInput struct {
	ServiceCode, FormatVersion string
	Filters                    []productFilter
	MaxResults                 *int32
	NextToken                  *string
}

type getProductsOutput struct {
	FormatVersion string
	PriceList     []string // a JSON document each
	NextToken     *string  `json:",omitempty"`
}

type product struct {
	Product struct {
		ProductFamily string            `json:"productFamily"`
		Attributes    map[string]string `json:"attributes"`
		SKU           string            `json:"sku"`
	} `json:"product"`
	ServiceCode string `json:"serviceCode"`
	Terms       struct {
		OnDemand map[string]term
	} `json:"terms"`
}

type term struct {
	PriceDimensions map[string]dimension `json:"priceDimensions"`
}

type dimension struct {
	Unit         string            `json:"unit"`
	PricePerUnit map[string]string `json:"pricePerUnit"`
}

// newProduct is the on-demand offer of Linux on a type: shared tenancy, or dedicated for bare metal.
func (c *Cloud) newProduct(name string, price float64) product {
	info, _ := instancetypes.Info(name)
	family, tenancy := "Compute Instance", "Shared"
	if awssdk.ToBool(info.BareMetal) {
		family, tenancy = "Compute Instance (bare metal)", "Dedicated"
	}
	p := product{ServiceCode: "AmazonEC2"}
	p.Product.SKU, p.Product.ProductFamily = name, family
	p.Product.Attributes = map[string]string{
		"instanceType": name, "regionCode": c.region, "tenancy": tenancy, "operatingSystem": "Linux", "preInstalledSw": "NA",
		"capacitystatus": "Used", "marketoption": "OnDemand", "servicecode": "AmazonEC2",
	}
	p.Terms.OnDemand = map[string]term{name: {PriceDimensions: map[string]dimension{
		name: {Unit: "Hrs", PricePerUnit: map[string]string{"USD": strconv.FormatFloat(price, 'f', 10, 64)}},
	}}}
	return p
}

// matches compares as the field of a filter is spelt: fields of the product, the service, or attributes.
func (p product) matches(f productFilter) bool {
	switch f.Field {
	case "productFamily":
		return p.Product.ProductFamily == f.Value
	case "serviceCode", "ServiceCode":
		return p.ServiceCode == f.Value
	}
	return p.Product.Attributes[f.Field] == f.Value
}

func (c *Cloud) getProducts(_ *http.Request, in getProductsInput) (getProductsOutput, error) {
	out := getProductsOutput{FormatVersion: "aws_v1", PriceList: []string{}}
	if in.ServiceCode != "AmazonEC2" {
		return out, clientError("InvalidParameterException", "The sandbox has prices of AmazonEC2 only, not of %s", in.ServiceCode)
	}
	for _, f := range in.Filters {
		if f.Type != "TERM_MATCH" {
			return out, clientError("InvalidParameterException", "The sandbox does not simulate filters of type %s", f.Type)
		}
	}
	var products []product
	for _, name := range instancetypes.Names() {
		price, ok := instancetypes.Price(name)
		if !ok {
			continue
		}
		p := c.newProduct(name, price)
		if !slices.ContainsFunc(in.Filters, func(f productFilter) bool { return !p.matches(f) }) {
			products = append(products, p)
		}
	}
	cut, next, err := page(products, in.NextToken, in.MaxResults, 1, 100)
	if err != nil {
		return out, err
	}
	for _, p := range cut {
		document, err := json.Marshal(p)
		if err != nil {
			return out, err
		}
		out.PriceList = append(out.PriceList, string(document))
	}
	out.NextToken = next
	return out, nil
}
