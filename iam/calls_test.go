// SPDX-License-Identifier: Apache-2.0

package iam_test

import (
	"go/types"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/go/packages"
)

// ofAWS are the modules in which a program of ours may call AWS.
var ofAWS = []string{"github.com/dovetail-dev/dovetail", "github.com/aws/karpenter-provider-aws", "sigs.k8s.io/karpenter", "github.com/awslabs/operatorpkg"}

// services are the prefixes of actions whose name is not that of the SDK's package.
var services = map[string]string{"arczonalshift": "arc-zonal-shift", "timestreamwrite": "timestream"}

var input = regexp.MustCompile(`^\*?github\.com/aws/aws-sdk-go-v2/service/([a-z0-9]+)\.([A-Za-z]+)Input$`)

// calls returns the actions that each package can call which is linked into a program: every mention of an operation of the SDK, of
// its clients or of an interface over them.
func calls(t *testing.T, program string) map[string][]string {
	t.Helper()
	// As `make build` compiles: what that has left in the build cache is what is read here.
	env := append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS="+strings.TrimSpace(os.Getenv("GOFLAGS")+" -trimpath"))
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{.ImportPath}} {{join .Imports \" \"}}", program)
	list.Env = env
	out, err := list.Output()
	require.NoError(t, err)
	var paths []string
	for line := range strings.Lines(string(out)) {
		path, imports, _ := strings.Cut(line, " ")
		if strings.Contains(imports, "aws-sdk-go-v2/service/") && slices.ContainsFunc(ofAWS, func(module string) bool { return strings.HasPrefix(path, module+"/") }) {
			paths = append(paths, path)
		}
	}
	// Without NeedDeps the packages' own imports are read from the compiler's export data.
	loaded, err := packages.Load(&packages.Config{
		Mode: packages.NeedName | packages.NeedTypes | packages.NeedTypesInfo | packages.NeedSyntax | packages.NeedImports, Context: t.Context(), Env: env,
	}, paths...)
	require.NoError(t, err)
	found := map[string][]string{}
	for _, p := range loaded {
		require.Empty(t, p.Errors, p.PkgPath)
		for _, used := range p.TypesInfo.Uses {
			if action, ok := operation(used); ok && !slices.Contains(found[p.PkgPath], action) {
				found[p.PkgPath] = append(found[p.PkgPath], action)
			}
		}
		slices.Sort(found[p.PkgPath])
	}
	return found
}

// operation tells which action a method or a paginator's constructor calls.
func operation(used types.Object) (action string, ok bool) {
	f, ok := used.(*types.Func)
	if !ok {
		return "", false
	}
	params := f.Signature().Params()
	if params.Len() < 2 {
		return "", false
	}
	match := input.FindStringSubmatch(params.At(1).Type().String())
	if match == nil || f.Name() != match[2] && f.Name() != "New"+match[2]+"Paginator" {
		return "", false
	}
	service := match[1]
	if prefix, ok := services[service]; ok {
		service = prefix
	}
	return service + ":" + match[2], true
}
