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
  const values = points.map(({ accuracy }) => 100 * accuracy);
  const margin = Math.max(0.5, (Math.max(...values) - Math.min(...values)) * 0.15);
  const of = ({ name, budget, flops, accuracy }: CurvePoint) => ({
    name,
    pruned: budget !== null,
    x: flops,
    y: 100 * accuracy,
  });
  return tradeOff(points.map(of), 'FLOPs per image', {
    name: 'accuracy, %',
    min: Math.max(0, Math.floor((Math.min(...values) - margin) * 2) / 2),
    max: Math.min(100, Math.ceil((Math.max(...values) + margin) * 2) / 2),
  });
}

/** A model at some cost, and how good or bad it is there. */
export interface TradeOffPoint {
  readonly name: string;
  readonly pruned: boolean;
  readonly x: number;
  readonly y: number;
}

/** How good or bad models are against what they cost: a line of the pruned ones, and the unpruned ones as points of their own. */
export function tradeOff(
  points: readonly TradeOffPoint[],
  cost: string,
  measure: { readonly name: string; readonly min?: number; readonly max?: number; format?(value: number): string },
): Html {
  const { name: measured, min, max, format } = measure;
  const swept = points.filter(({ pruned }) => pruned).sort((a, b) => a.x - b.x);
  const dense = points.filter(({ pruned }) => !pruned);
  const series = (list: readonly TradeOffPoint[], name: string, color: string, symbol: string) => ({
    type: 'line',
    name,
    color,
    symbol,
    symbolSize: 9,
    data: list.map((point) => ({
      value: [point.x, point.y],
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
    grid: { left: 70, right: 40, top: 30, bottom: 60 },
    xAxis: {
      ...axis,
      type: 'value',
      name: cost,
      nameLocation: 'middle',
      nameGap: 32,
      min: 0,
      axisLabel: { color: ink, formatter: (value: number) => (value === 0 ? '0' : flopsText(value)) },
    },
    yAxis: {
      ...axis,
      type: 'value',
      name: measured,
      ...(min === undefined ? {} : { min }),
      ...(max === undefined ? {} : { max }),
      ...(format ? { axisLabel: { color: ink, formatter: format } } : {}),
    },
    series: [series(swept, 'pruned', '#54278f', 'circle'), series(dense, 'unpruned', '#d95f02', 'diamond')],
  });
}

function indices(count: number): string[] {
  return Array.from({ length: count }, (_, i) => String(i));
}
