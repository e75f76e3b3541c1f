// SPDX-License-Identifier: Apache-2.0

package scenario

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/sandbox"
)

// Credentials of the metadata service are compared with their forms where they are made, in pkg/sandbox/aws.
func TestEachCredentialIsFoundInALine(t *testing.T) {
	elliptical, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	ec, err := x509.MarshalECPrivateKey(elliptical)
	require.NoError(t, err)
	prime, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(prime)
	require.NoError(t, err)
	encoded := func(kind string, content []byte) string {
		return base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: content}))
	}
	seen := map[string]bool{}
	for text, want := range map[string]string{
		"key " + sandbox.UserAccessKeyID:                                  "access key id of the user",
		`"secret":"` + sandbox.UserSecretAccessKey + `"`:                  "secret access key of the user",
		"token eyJhbGciOiJSUzI1NiJ9.eyJhdWQiOlsiaHR0cHMiXX0.c2lnbmF0dXJl": "bearer token",
		"-----BEGIN EC PRIVATE KEY-----":                                  "private key",
		encoded("EC PRIVATE KEY", ec):                                     "private key in base64",
		encoded("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(prime)):    "private key in base64",
		encoded("PRIVATE KEY", pkcs8):                                     "private key in base64",
		"https://sts.amazonaws.com/?X-Amz-Signature=0123456789abcdef01":   "signature of a request to AWS",
		"proxyconnect to http://user:geheim@proxy:3128":                   "password in a URL",
		`Authorization: Basic dXNlcjp`:                                    "header that carries credentials",
		`"X-Amz-Security-Token": ["IQoJb3"]`:                              "header that carries credentials",
		"AQAEsandbox01234567-89ab-cdef-0123-456789abcdef":                 "session token of the metadata service",
		"ASIA0123456789ABCDEF":                                            "access key id of a role",
		"sandbox0123456789ABCDEF0sandbox":                                 "secret access key of a role",
		"sandbox-i-0123456789abcdef0":                                     "session token of a role",
	} {
		found, err := secretsIn(strings.NewReader("a line\n" + text + "\n"))
		require.NoError(t, err)
		require.Equal(t, []string{"line 2: " + want}, found, text)
		seen[want] = true
	}
	require.ElementsMatch(t, slices.Collect(maps.Keys(secretForms())), slices.Collect(maps.Keys(seen)))
	for _, text := range []string{
		`{"level":"INFO","message":"launched nodeclaim","provider-id":"aws:///us-east-1c/i-0108b1b0329ef6cca","instance-type":"m5.large"}`,
		encoded("CERTIFICATE", ec), "arn:aws:iam::123456789012:role/sandbox", "https://10.0.0.5:6443/api", "no Authorization", "2026-11-21T18:27:28.245Z",
		"operation error EC2: CreateFleet, https response error StatusCode: 403, RequestID: 01234567-89ab-cdef-0123-456789abcdef, api error UnauthorizedOperation: User: arn:aws:sts::1:assumed-role/r/i-0123456789abcdef0",
	} {
		found, err := secretsIn(strings.NewReader(text))
		require.NoError(t, err)
		require.Empty(t, found, text)
	}
}
