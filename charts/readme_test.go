// SPDX-License-Identifier: Apache-2.0

package charts_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dovetail-dev/dovetail/charts"
)

var update = flag.Bool("update", false, "write the tables of the charts' READMEs")

func TestTheReadmesAreCurrent(t *testing.T) {
	const begin, end = "<!-- values -->\n", "<!-- /values -->"
	for _, chart := range []string{charts.Dovetail, charts.CRDs} {
		path := chart + "/README.md"
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		before, rest, found := strings.Cut(string(content), begin)
		require.True(t, found, path)
		_, after, found := strings.Cut(rest, end)
		require.True(t, found, path)
		wanted := before + begin + valueTable(t, chart) + end + after
		if *update {
			require.NoError(t, os.WriteFile(path, []byte(wanted), 0o600))
			continue
		}
		require.Equal(t, wanted, string(content), "run make generate")
	}
}

// valueTable has a row for each value, and one for each group of values that says something of itself.
func valueTable(t *testing.T, chart string) string {
	root, defaults := read(t, chart)
	var table strings.Builder
	table.WriteString("| Value | Default | Meaning |\n| --- | --- | --- |\n")
	for _, name := range root.Properties.names {
		group := root.Properties.schemas[name]
		if len(group.Properties.names) > 0 {
			fmt.Fprintf(&table, "| **`%s`** | | %s |\n", name, group.Description)
		}
		for _, v := range (&schema{Properties: properties{names: []string{name}, schemas: root.Properties.schemas}}).values() {
			text := ""
			if set := defaultOf(defaults, v.path); set != "" {
				content, err := json.Marshal(set)
				require.NoError(t, err)
				text = "`" + strings.Trim(string(content), `"`) + "`"
			}
			fmt.Fprintf(&table, "| `%s` | %s | %s |\n", v, text, v.schema.Description)
		}
	}
	return table.String()
}
