import type { VersionComparison } from '../../server/comparison/result.js';
import { axis, draw, ink } from './charts.js';
import type { Html } from './html.js';

/** Colours that are told apart by people who see few. */
const colours = ['#d95f02', '#54278f', '#1b9e77', '#e7298a', '#386cb0', '#a6761d'];
const colourOf = (at: number): string => colours[at % colours.length]!;

/** The share of the requests that were answered within a time, a line a version. */
export function latencyChart(versions: readonly VersionComparison[]): Html {
  return draw(720, 340, {
    grid: { left: 60, right: 40, top: 40, bottom: 60 },
    xAxis: {
      ...axis,
      type: 'value',
      name: 'latency of a request, ms',
      nameLocation: 'middle',
      nameGap: 32,
      scale: true,
    },
    yAxis: { ...axis, type: 'value', name: 'requests, %', min: 0, max: 100 },
    series: versions.map(({ version, latency }, at) => ({
      type: 'line',
      name: `version ${version}`,
      color: colourOf(at),
      symbol: 'none',
      data: latency.distribution.map((ms, percent) => [ms, percent]),
      endLabel: { show: true, formatter: `version ${version}`, color: colourOf(at), offset: [-70, -10 - 14 * at] },
    })),
  });
}

/** A value with its interval, where there is one. */
export interface IntervalRow {
  readonly name: string;
  readonly value: number;
  readonly low?: number;
  readonly high?: number;
}

/** A row a value, its interval as a bar, and a line at the value that means no difference. */
export function intervalChart(rows: readonly IntervalRow[], options: { reference: number; name: string }): Html {
  const { reference, name } = options;
  const ends = rows.flatMap(({ value, low = value, high = value }) => [low, high, value]);
  const [least, most] = [Math.min(reference, ...ends), Math.max(reference, ...ends)];
  const margin = Math.max(0.05 * (most - least), 1e-3);
  const names = rows.map((row) => row.name);
  return draw(720, 90 + rows.length * 30, {
    grid: { left: 190, right: 110, top: 10, bottom: 60 },
    xAxis: {
      ...axis,
      type: 'value',
      name,
      nameLocation: 'middle',
      nameGap: 32,
      min: least - margin,
      max: most + margin,
      axisLabel: {
        color: ink,
        showMinLabel: false,
        showMaxLabel: false,
        formatter: (value: number) => String(Number(value.toPrecision(3))),
      },
    },
    yAxis: { ...axis, type: 'category', data: names, inverse: true },
    series: [
      {
        type: 'line',
        symbol: 'none',
        color: '#999',
        lineStyle: { type: 'dashed', width: 1 },
        data: [
          [reference, names[0]],
          [reference, names.at(-1)],
        ],
      },
      ...rows.flatMap(({ name: row, low, high }) =>
        low === undefined || high === undefined
          ? []
          : [
              {
                type: 'line',
                color: '#54278f',
                symbol: 'rect',
                symbolSize: [2, 12],
                lineStyle: { width: 2 },
                data: [
                  [low, row],
                  [high, row],
                ],
              },
            ],
      ),
      {
        type: 'line',
        color: '#54278f',
        symbol: 'circle',
        symbolSize: 8,
        lineStyle: { opacity: 0 },
        data: rows.map(({ name: row, value, high = value }) => ({
          value: [value, row],
          label: {
            show: true,
            position: 'top',
            formatter: String(Number(value.toPrecision(3))),
            fontSize: 10,
            color: ink,
            offset: high === value ? [0, 0] : [0, -1],
          },
        })),
      },
    ],
  });
}

/** A value by its place behind a prompt, a line a version; the first place is 1. */
export function positionChart(lines: readonly { readonly name: string; readonly values: readonly number[] }[]): Html {
  return draw(720, 340, {
    grid: { left: 70, right: 90, top: 40, bottom: 60 },
    xAxis: { ...axis, type: 'value', name: 'place behind the prompt', nameLocation: 'middle', nameGap: 32, min: 1 },
    yAxis: { ...axis, type: 'value', name: 'KL, nats', min: 0 },
    series: lines.map(({ name, values }, at) => ({
      type: 'line',
      name,
      color: colourOf(at + 1),
      symbol: values.length < 40 ? 'circle' : 'none',
      data: values.map((value, place) => [place + 1, value]),
      endLabel: { show: true, formatter: name, color: colourOf(at + 1) },
    })),
  });
}
