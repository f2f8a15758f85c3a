import { HeatmapChart, LineChart } from 'echarts/charts';
import { GridComponent, VisualMapComponent } from 'echarts/components';
import * as echarts from 'echarts/core';
import { SVGRenderer } from 'echarts/renderers';
import { flopsText } from '../output.js';
import type { CurvePoint, HeadSensitivity } from './data.js';
import { Html } from './html.js';

echarts.use([HeatmapChart, LineChart, GridComponent, VisualMapComponent, SVGRenderer]);

export const ink = '#555';
export const axis = {
  axisLabel: { color: ink },
  nameTextStyle: { color: ink },
  axisLine: { lineStyle: { color: '#999' } },
  splitLine: { lineStyle: { color: '#8884' } },
};

/** Draws a chart to SVG, without a browser; echarts escapes the text in it. */
export function draw(width: number, height: number, option: echarts.EChartsCoreOption): Html {
  const chart = echarts.init(null, null, { renderer: 'svg', ssr: true, width, height });
  try {
    chart.setOption({
      animation: false,
      backgroundColor: 'transparent',
      textStyle: { fontFamily: 'sans-serif' },
      ...option,
    });
    return new Html(chart.renderToSVGString());
  } finally {
    chart.dispose();
  }
}

/** Layers × heads, coloured by the logarithm of the sensitivity: they span orders of magnitude. */
export function headHeatMap({ values }: HeadSensitivity): Html {
  const heads = Math.max(...values.map((row) => row.length));
  const positive = values.flat().filter((value) => value > 0);
  const floor = positive.length > 0 ? Math.min(...positive) : 1e-12;
  const level = (value: number) => Math.log10(Math.max(value, floor));
  const levels = values.flat().map(level);
  return draw(Math.max(420, 150 + heads * 64), 90 + values.length * 34, {
    grid: { left: 70, right: 90, top: 20, bottom: 50 },
    xAxis: { ...axis, type: 'category', data: indices(heads), name: 'head', nameLocation: 'middle', nameGap: 28 },
    yAxis: { ...axis, type: 'category', data: indices(values.length), name: 'block', inverse: true },
    visualMap: {
      min: Math.min(...levels),
      max: Math.max(...levels),
      orient: 'vertical',
      right: 0,
      top: 'middle',
      text: ['sensitive', 'spare'],
      textStyle: { color: ink },
      formatter: (value: number) => (10 ** value).toExponential(0),
      inRange: { color: ['#f2f0f7', '#9e9ac8', '#54278f'] },
    },
    series: [
      {
        type: 'heatmap',
        data: values.flatMap((row, layer) =>
          row.map((value, head) => ({
            value: [head, layer, level(value)],
            label: { show: true, formatter: value.toPrecision(2), fontSize: 10 },
          })),
        ),
      },
    ],
  });
}

/** Accuracy against FLOPs over the budgets; the unpruned model is a point of its own. */
export function accuracyCurve(points: readonly CurvePoint[]): Html {
  const swept = points.filter(({ budget }) => budget !== null).sort((a, b) => a.flops - b.flops);
  const dense = points.filter(({ budget }) => budget === null);
  const values = points.map(({ accuracy }) => 100 * accuracy);
  const margin = Math.max(0.5, (Math.max(...values) - Math.min(...values)) * 0.15);
  const series = (list: readonly CurvePoint[], name: string, color: string, symbol: string) => ({
    type: 'line',
    name,
    color,
    symbol,
    symbolSize: 9,
    data: list.map((point) => ({
      value: [point.flops, 100 * point.accuracy],
      label: {
        show: true,
        formatter: point.name,
        position: name === 'pruned' ? 'bottom' : 'top',
        fontSize: 10,
        color: ink,
      },
    })),
  });
  return draw(720, 360, {
    grid: { left: 60, right: 40, top: 30, bottom: 60 },
    xAxis: {
      ...axis,
      type: 'value',
      name: 'FLOPs per image',
      nameLocation: 'middle',
      nameGap: 32,
      min: 0,
      axisLabel: { color: ink, formatter: (value: number) => (value === 0 ? '0' : flopsText(value)) },
    },
    yAxis: {
      ...axis,
      type: 'value',
      name: 'accuracy, %',
      min: Math.max(0, Math.floor((Math.min(...values) - margin) * 2) / 2),
      max: Math.min(100, Math.ceil((Math.max(...values) + margin) * 2) / 2),
    },
    series: [series(swept, 'pruned', '#54278f', 'circle'), series(dense, 'unpruned', '#d95f02', 'diamond')],
  });
}

function indices(count: number): string[] {
  return Array.from({ length: count }, (_, i) => String(i));
}
