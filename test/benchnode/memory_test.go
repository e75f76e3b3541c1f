// SPDX-License-Identifier: Apache-2.0

package benchnode

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// settle is how long the agent is left alone before its memory is read.
const settle = 10 * time.Second

// memory of a process, in bytes.
type memory struct {
	Name      string `json:"name"`
	RSS       int64  `json:"rss"`
	Anonymous int64  `json:"anonymous"`
	File      int64  `json:"file"`
	PSS       int64  `json:"pss"`
	Private   int64  `json:"private"`
}

// memories of the agent without pods, and with as many as most nodes have at most.
func memories(t *testing.T, w *world) []memory {
	i := w.launch(t)
	time.Sleep(settle)
	idle := i.memory(t, "idle")
	pods := newPods(t, "memory", 110)
	for _, p := range pods {
		require.NoError(t, w.createPod(t.Context(), p.name, i.name))
	}
	i.addAll(t, pods, 4)
	time.Sleep(settle)
	return []memory{idle, i.memory(t, fmt.Sprintf("%d pods", len(pods)))}
}

func (i *instance) memory(t *testing.T, name string) memory {
	status := kilobytes(t, fmt.Sprintf("/proc/%d/status", i.agent.Process.Pid))
	rollup := kilobytes(t, fmt.Sprintf("/proc/%d/smaps_rollup", i.agent.Process.Pid))
	return memory{
		Name: name, RSS: status["VmRSS"], Anonymous: status["RssAnon"], File: status["RssFile"],
		PSS: rollup["Pss"], Private: rollup["Private_Clean"] + rollup["Private_Dirty"],
	}
}

// kilobytes reads the lines of a file in /proc that give a size, in bytes.
func kilobytes(t *testing.T, path string) map[string]int64 {
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	sizes := map[string]int64{}
	for line := range strings.Lines(string(content)) {
		if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			require.NoError(t, err)
			sizes[strings.TrimSuffix(f[0], ":")] = n * 1024
		}
	}
	return sizes
}
