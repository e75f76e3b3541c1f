// SPDX-License-Identifier: Apache-2.0

package benchnode

import (
	"bytes"
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/pkg/agent/pool"
	"github.com/dovetail-dev/dovetail/pkg/sandbox/controlplane/controlplanetest"
)

// kernelCount is how much a node's kernel holds for its pods.
type kernelCount struct {
	Name        string `json:"name"`
	Prefixes    int    `json:"prefixes"`
	Rules       int    `json:"rules"` // without the kernel's own three
	PodRoutes   int    `json:"podRoutes"`
	Routes      int    `json:"routes"` // all others, the kernel's own among them
	NftRules    int    `json:"nftRules"`
	NftElements int    `json:"nftElements"`
}

func (i *instance) kernel(t *testing.T, pods int) kernelCount {
	t.Helper()
	var facts bytes.Buffer
	cmd := exec.Command(filepath.Join(controlplanetest.BinDir(), "netprobe"), "kernel")
	cmd.Stdout = &facts
	require.NoError(t, i.in(cmd.Start))
	require.NoError(t, cmd.Wait())
	count := kernelCount{Name: fmt.Sprintf("%d pods", pods), Prefixes: len(i.pool(t).Prefixes())}
	for fact := range strings.Lines(facts.String()) {
		switch {
		case strings.HasPrefix(fact, "rule 0:"), strings.HasPrefix(fact, "rule 32766:"), strings.HasPrefix(fact, "rule 32767:"):
		case strings.HasPrefix(fact, "rule "):
			count.Rules++
		case strings.HasPrefix(fact, fmt.Sprintf("route table %d:", pool.PodTable)):
			count.PodRoutes++
		case strings.HasPrefix(fact, "route "):
			count.Routes++
		case strings.HasPrefix(fact, "nft ") && strings.Contains(fact, " set ") && !strings.HasSuffix(strings.TrimSpace(fact), " end"):
			count.NftElements++ // an interval counts once
		case strings.HasPrefix(fact, "nft ") && strings.Contains(fact, " rule handle "):
			count.NftRules++
		}
	}
	return count
}
