// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"

	"github.com/dovetail-dev/dovetail/charts"
)

// packageCharts packages the charts as `helm package --version --app-version` does. Helm's archives hold the time of their
// making: they are written again.
func (r *release) packageCharts(context.Context) error {
	number := strings.TrimPrefix(r.version, "v") // as Karpenter's charts and images: without the v
	for _, name := range []string{charts.Dovetail, charts.CRDs} {
		chart, err := loader.LoadDir(filepath.Join("charts", name))
		if err != nil {
			return fmt.Errorf("chart %s: %w", name, err)
		}
		chart.Metadata.Version, chart.Metadata.AppVersion = number, number
		if err := chart.Validate(); err != nil {
			return fmt.Errorf("chart %s: %w", name, err)
		}
		saved, err := chartutil.Save(chart, r.work)
		if err != nil {
			return fmt.Errorf("chart %s: %w", name, err)
		}
		entries, err := packed(saved)
		if err != nil {
			return fmt.Errorf("%s: %w", saved, err)
		}
		path := filepath.Join(r.out, filepath.Base(saved))
		if err := writeArchive(path, r.epoch, entries); err != nil {
			return err
		}
		fmt.Println(path)
	}
	return nil
}

// packed are the entries of a .tgz.
func packed(path string) (entries []entry, err error) {
	err = eachFile(path, func(header *tar.Header, content io.Reader) error {
		file, err := io.ReadAll(content)
		entries = append(entries, entry{name: header.Name, mode: 0o644, content: bytes.NewReader(file), size: header.Size})
		return err
	})
	return entries, err
}
