import { encodeModel } from '../../../onnx/encode.js';
import { GraphBuilder } from '../../../onnx/builder.js';
import { uniformLayout, type TokenLayout } from '../../../models/tokens.js';
import type { Runtime, Session } from '../../../runtime/runtime.js';
import type { TensorValue } from '../../../runtime/tensor.js';
import type { StageParameters } from '../parameters.js';
import { mergeStage, type StageResult } from '../stage.js';
import type { Layout, Matrix, Sample } from './reference.js';

/** A stage alone in a graph, fed with samples, and its answers cut into samples again. */

export interface StageShape extends Layout {
  readonly width: number;
  /** A number for a uniform layout of so many tokens, undefined for a packed one. */
  readonly tokens: number | undefined;
}

export interface SampleResult {
  readonly x: number[][];
  readonly mass: number[];
  readonly groups: number[];
  readonly candidates: number[][];
  readonly summedCost: number;
  readonly kept: number;
}

export interface StageRun {
  readonly session: Session;
  /** thresholds[sample][matching]. */
  run(samples: readonly Sample[], thresholds: readonly (readonly number[])[]): Promise<SampleResult[]>;
}

/** One stage, or several in a row: then masses and tokens are those after the last, and so are groups, candidates and costs. */
export async function loadStage(
  runtime: Runtime,
  parameters: StageParameters | readonly StageParameters[],
  shape: StageShape,
): Promise<StageRun> {
  const stages = 'block' in parameters ? [parameters] : parameters;
  const { width, special, heads, tokens } = shape;
  const g = new GraphBuilder('stage');
  const layout: TokenLayout =
    tokens === undefined
      ? {
          batch: 'B',
          rows: 'rows',
          longest: 'longest',
          full: 64,
          special,
          packed: {
            scattered: {
              places: g.input('places', 'int64', ['rows']),
              rowsAt: g.input('rows_at', 'int64', ['B', 'longest']),
            },
            mass: g.input('mass', 'float32', ['B', 1, 'longest']),
            count: g.input('count', 'float32', ['B', 1, 1]),
          },
        }
      : uniformLayout('B', tokens, special);
  const matrix = (name: string) => g.input(name, 'float32', [layout.rows, width]);
  let seam = { tokens: { rows: matrix('x'), layout }, queries: matrix('queries'), keys: matrix('keys'), heads };
  let result: StageResult | undefined;
  let given = 0;
  for (const stage of stages) {
    const limit = () => g.input(`threshold_${given++}`, 'float32', ['B', 1]);
    const thresholds = Array.from({ length: stage.matchings }, limit);
    result = mergeStage(g, { ...seam, block: stage.block }, stage, thresholds);
    // Further stages have the tokens themselves for queries and keys.
    seam = { ...seam, tokens: result.tokens, queries: result.tokens.rows, keys: result.tokens.rows };
  }
  if (!result) throw new Error('no stage');
  const candidates = result.candidates.length;
  const packed = result.tokens.layout.packed!;
  const outputs = {
    out_x: result.tokens.rows,
    out_places: packed.scattered!.places,
    out_rows_at: packed.scattered!.rowsAt,
    out_mass: packed.mass,
    kept: result.kept,
    groups: result.groups,
    summed_cost: result.summedCost,
    ...Object.fromEntries(result.candidates.map((value, i) => [`candidates_${i}`, value])),
  };
  const graph = g.build(Object.entries(outputs).map(([name, value]) => g.named(name, value)));
  const session = await runtime.load(encodeModel(graph));
  return {
    session,
    async run(samples, limits) {
      const answer = await session.run(feedsOf(samples, limits, shape));
      return samples.map((sample, b) => cut(answer, b, sample.x.length, width, candidates));
    },
  };
}

export function feedsOf(
  samples: readonly Sample[],
  thresholds: readonly (readonly number[])[],
  { width, tokens }: StageShape,
): Record<string, TensorValue> {
  const rows = samples.reduce((sum, s) => sum + s.x.length, 0);
  const matrix = (of: (s: Sample) => Matrix) =>
    float(
      [rows, width],
      samples.flatMap((s) => of(s).flat()),
    );
  const feeds: Record<string, TensorValue> = {
    x: matrix((s) => s.x),
    queries: matrix((s) => s.queries),
    keys: matrix((s) => s.keys),
  };
  for (const i of thresholds[0]!.keys()) {
    feeds[`threshold_${i}`] = float(
      [samples.length, 1],
      thresholds.map((t) => t[i]!),
    );
  }
  if (tokens !== undefined) return feeds;
  const longest = Math.max(...samples.map((s) => s.x.length));
  const places: number[] = [];
  const rowsAt: number[] = [];
  const mass: number[] = [];
  for (const [b, sample] of samples.entries()) {
    const first = places.length;
    for (let i = 0; i < longest; i++) {
      const there = i < sample.x.length;
      if (there) places.push(b * longest + i);
      // A place without a token repeats some row, of another sample even.
      rowsAt.push(there ? first + i : (first + 7 * i) % rows);
      mass.push(there ? sample.mass[i]! : 0);
    }
  }
  feeds['count'] = float(
    [samples.length, 1, 1],
    samples.map((s) => s.x.length),
  );
  feeds['places'] = integers([rows], places);
  feeds['rows_at'] = integers([samples.length, longest], rowsAt);
  feeds['mass'] = float([samples.length, 1, longest], mass);
  return feeds;
}

/** The part of one sample; throws where the layout contradicts itself. */
function cut(
  answer: Record<string, TensorValue>,
  b: number,
  entered: number,
  width: number,
  candidates: number,
): SampleResult {
  const numbers = (name: string) => Array.from(answer[name]!.data as Float32Array | BigInt64Array, Number);
  const row = (name: string) => {
    const size = answer[name]!.dims.at(-1)!;
    return numbers(name).slice(b * size, (b + 1) * size);
  };
  const [kept, summedCost] = [row('kept')[0]!, row('summed_cost')[0]!];
  const longest = answer['out_mass']!.dims[2]!;
  const places = numbers('out_places');
  const all = numbers('out_x');
  const rowsAt = row('out_rows_at');
  if (all.length !== places.length * width) throw new Error(`${all.length} numbers for ${places.length} rows`);
  if (rowsAt.some((r) => r < 0 || r >= places.length)) throw new Error(`rows at ${rowsAt.join()} of ${places.length}`);
  const x = rowsAt.slice(0, kept).map((r, i) => {
    if (places[r] !== b * longest + i) throw new Error(`row ${r} is at place ${places[r]}, not at ${b * longest + i}`);
    return all.slice(r * width, (r + 1) * width);
  });
  const mass = row('out_mass');
  if (mass.slice(kept).some((m) => m !== 0))
    throw new Error(`places without a token have mass ${mass.slice(kept).join()}`);
  return {
    x,
    mass: mass.slice(0, kept),
    groups: row('groups').slice(0, entered),
    candidates: Array.from({ length: candidates }, (_, i) => row(`candidates_${i}`)),
    summedCost,
    kept,
  };
}

function float(dims: number[], values: readonly number[]): TensorValue {
  return { type: 'float32', dims, data: Float32Array.from(values) };
}

function integers(dims: number[], values: readonly number[]): TensorValue {
  return { type: 'int64', dims, data: BigInt64Array.from(values, BigInt) };
}
