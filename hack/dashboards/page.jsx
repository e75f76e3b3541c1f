// SPDX-License-Identifier: Apache-2.0

// Draws one dashboard as Grafana does: its panels at their gridPos, each with Grafana's own component for that type. What Grafana's
// application does between a query and a component is done here: frames of the results, and a panel's fieldConfig in each field.
import {
  createTheme, createDataFrame, FieldColorModeId, FieldType, getDisplayProcessor, getDisplayValueAlignmentFactors, ThemeContext, ThresholdsMode,
  VizOrientation, dateTime,
} from '@grafana/data';
import { initPluginTranslations } from '@grafana/i18n';
import { BarGauge, BigValue, GlobalStyles, PanelChrome, TimeSeries, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { createRoot } from 'react-dom/client';
import '@grafana/react-data-grid/lib/styles.css';
import 'uplot/dist/uPlot.min.css';

const { evaluated, name } = globalThis.dashboards;
const { model, results } = evaluated.dashboards.find((d) => d.name === name);
const theme = createTheme({ colors: { mode: 'light' } });
const columns = 24, cell = 30, gap = 8; // of Grafana's grid, in pixels
const width = 1200;

// What Grafana takes where a panel says nothing.
const defaultCustom = { drawStyle: 'line', lineInterpolation: 'linear', pointSize: 5, spanNulls: false, axisPlacement: 'auto' };
const defaultThresholds = { mode: ThresholdsMode.Absolute, steps: [{ value: -Infinity, color: 'green' }, { value: 80, color: 'red' }] };

function fieldConfig(panel, colorMode) {
  const { defaults } = panel.fieldConfig;
  const thresholds = defaults.thresholds ?? defaultThresholds;
  return {
    ...defaults,
    custom: { ...defaultCustom, ...defaults.custom },
    color: defaults.color ?? { mode: colorMode },
    thresholds: { ...thresholds, steps: thresholds.steps.map((step) => ({ ...step, value: step.value ?? -Infinity })) },
  };
}

// A frame a series, as of a query for a range.
function frames(panel, targets, colorMode) {
  const found = panel.targets.flatMap((target) => (targets[target.refId] ?? []).map((series) => ({ target, series })));
  return found.map(({ target, series }, seriesIndex) => {
    const config = { ...fieldConfig(panel, colorMode), displayNameFromDS: series.name };
    const frame = createDataFrame({
      refId: target.refId, name: series.name,
      fields: [
        { name: 'Time', type: FieldType.time, values: series.times, config: { interval: 10_000 } },
        { name: 'Value', type: FieldType.number, values: series.values, labels: series.labels, config },
      ],
    });
    for (const field of frame.fields) {
      field.state = { seriesIndex, origin: { frameIndex: seriesIndex, fieldIndex: 1 } };
      field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
    }
    return frame;
  });
}

// The last value of each series, as of an instant query reduced by lastNotNull.
function lastValues(panel, targets) {
  return frames(panel, targets, FieldColorModeId.Thresholds).map((frame) => {
    const field = frame.fields[1];
    return { field, display: { ...field.display(field.values.at(-1)), title: field.config.displayNameFromDS } };
  });
}

const noData = (panel) => (
  <div style={{ height: '100%', display: 'flex', alignItems: 'center', justifyContent: 'center', color: theme.colors.text.secondary }}>
    {panel.fieldConfig.defaults.noValue ?? 'No data'}
  </div>
);

const draw = {
  timeseries(panel, targets, width, height) {
    const found = frames(panel, targets, FieldColorModeId.PaletteClassic);
    if (found.length === 0) {
      return noData(panel);
    }
    const range = { from: dateTime(evaluated.from), to: dateTime(evaluated.to) };
    return (
      <TimeSeries frames={found} width={width} height={height} timeRange={{ ...range, raw: range }} timeZone="utc"
        legend={{ showLegend: true, calcs: [], ...panel.options.legend }} options={panel.options} />
    );
  },
  stat(panel, targets, width, height) {
    const values = lastValues(panel, targets);
    return repeat(values, width, height, panel, ({ value, width, height, count, alignmentFactors }) => (
      <BigValue value={value.display} width={width} height={height} count={count} alignmentFactors={alignmentFactors} theme={theme}
        colorMode={panel.options.colorMode} graphMode={panel.options.graphMode} textMode={panel.options.textMode ?? 'auto'} justifyMode="auto" />
    ));
  },
  bargauge(panel, targets, width, height) {
    const values = lastValues(panel, targets);
    return repeat(values, width, height, panel, ({ value, width, height, orientation, alignmentFactors }) => (
      <BarGauge value={value.display} field={value.field.config} display={value.field.display} width={width} height={height} theme={theme}
        orientation={orientation} alignmentFactors={alignmentFactors} displayMode={panel.options.displayMode} text={panel.options.text}
        namePlacement={panel.options.namePlacement} showUnfilled itemSpacing={gap} lcdCellWidth={12} />
    ));
  },
  table(panel, targets, width, height) {
    const rows = panel.targets.flatMap((target) => targets[target.refId] ?? []).map((series) => series.labels);
    if (rows.length === 0) {
      return noData(panel);
    }
    const transformation = (id) => panel.transformations.find((t) => t.id === id).options;
    const { indexByName } = transformation('organize');
    for (const { field } of transformation('sortBy').sort) {
      rows.sort((a, b) => a[field].localeCompare(b[field]));
    }
    const names = Object.keys(rows[0]).sort((a, b) => indexByName[a] - indexByName[b]);
    const data = createDataFrame({
      fields: names.map((name) => ({ name, type: FieldType.string, values: rows.map((row) => row[name]), config: overridden(panel, name) })),
    });
    for (const field of data.fields) {
      field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
      field.state = {};
    }
    return <TableNG data={data} width={width} height={height} cellHeight="sm" />;
  },
};

// The fieldConfig of the field of that name.
function overridden(panel, name) {
  const config = { custom: {} };
  for (const { matcher, properties } of panel.fieldConfig.overrides) {
    for (const { id, value } of matcher.options === name ? properties : []) {
      if (id.startsWith('custom.')) {
        config.custom[id.slice('custom.'.length)] = value;
      } else {
        config[id] = value;
      }
    }
  }
  return config;
}

function repeat(values, width, height, panel, renderValue) {
  if (values.length === 0) {
    return noData(panel);
  }
  return (
    <VizRepeater getValues={() => values} source={values} renderCounter={0} width={width} height={height} renderValue={renderValue} itemSpacing={gap}
      getAlignmentFactors={(values) => getDisplayValueAlignmentFactors(values)} orientation={panel.options.orientation ?? VizOrientation.Auto} autoGrid />
  );
}

function Panel({ panel, targets }) {
  const { x, y, w, h } = panel.gridPos;
  const unit = (width - gap) / columns;
  const size = { width: w * unit - gap, height: h * (cell + gap) - gap };
  return (
    <div style={{ position: 'absolute', left: gap + x * unit, top: gap + y * (cell + gap) }}>
      <PanelChrome title={panel.title} description={panel.description} {...size}>
        {(width, height) => draw[panel.type](panel, targets, width, height)}
      </PanelChrome>
    </div>
  );
}

await initPluginTranslations('dashboards');
const bottom = Math.max(...model.panels.map(({ gridPos }) => gridPos.y + gridPos.h));
createRoot(document.getElementById('dashboard')).render(
  <ThemeContext.Provider value={theme}>
    <GlobalStyles />
    <div style={{ padding: `${gap}px ${gap}px 0`, fontSize: 18, fontWeight: 500 }}>{model.title}</div>
    <div style={{ position: 'relative', width, height: gap + bottom * (cell + gap), background: theme.colors.background.canvas }}>
      {model.panels.map((panel, i) => <Panel key={panel.id} panel={panel} targets={results[i]} />)}
    </div>
  </ThemeContext.Provider>,
);
