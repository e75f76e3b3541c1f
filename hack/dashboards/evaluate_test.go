// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/stretchr/testify/require"
)

func TestScrapesBecomeWhatPanelsDraw(t *testing.T) {
	dir := t.TempDir()
	for moment := int64(1_800_000_000); moment <= 1_800_000_060; moment += 20 {
		require.NoError(t, os.CopyFS(filepath.Join(dir, strconv.FormatInt(moment, 10)), os.DirFS("../../charts/testdata/metrics")))
	}
	found, err := evaluate(t.Context(), dir, "../../charts/dovetail/monitoring/dashboards")
	require.NoError(t, err)
	require.Equal(t, []int64{1_800_000_000_000, 1_800_000_060_000}, []int64{found.From, found.To})
	require.Len(t, found.Dashboards, 3)
	agents := found.Dashboards[0]
	require.Equal(t, "agents", agents.Name)
	require.Equal(t, []result{{Labels: map[string]string{}, Times: []int64{1_800_000_060_000}, Values: []float64{2}}}, agents.Results[0]["A"], "the number of agents is asked for at the end")
	for _, dashboard := range found.Dashboards {
		drawn := 0
		for _, panel := range dashboard.Results {
			for _, series := range panel {
				for _, one := range series {
					require.Len(t, one.Values, len(one.Times))
					drawn++
				}
			}
		}
		require.Positive(t, drawn, dashboard.Name)
	}
}

func TestAFolderWithoutScrapesIsAnError(t *testing.T) {
	_, err := evaluate(t.Context(), t.TempDir(), "../../charts/dovetail/monitoring/dashboards")
	require.ErrorContains(t, err, "holds no two scrapes")
}

func TestALegendNamesLabelsAsGrafanaDoes(t *testing.T) {
	require.Equal(t, "zone-a, : Full", legendOf("{{zone}}, {{ eni_config }}: {{reason}}", labels.FromStrings("zone", "zone-a", "reason", "Full")))
}
