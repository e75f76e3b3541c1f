// SPDX-License-Identifier: Apache-2.0

package aws

import "regexp"

// sessionPrefix of the metadata service's session tokens.
const sessionPrefix = "AQAEsandbox"

// Secrets are the forms of what this account gives out and nobody may tell on: by them a test finds one in a log.
var Secrets = map[string]*regexp.Regexp{
	"session token of the metadata service": regexp.MustCompile(sessionPrefix + `[0-9a-f-]{36}`),
	"access key id of a role":               regexp.MustCompile(`\bASIA[0-9A-F]{16}\b`),
	"secret access key of a role":           regexp.MustCompile(`sandbox[0-9A-F]{17}sandbox`),
	"session token of a role":               regexp.MustCompile(`\b` + roleTokenPrefix + `i-[0-9a-f]{17}\b`),
}
