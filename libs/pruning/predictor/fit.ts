import { randomFor, permutation, type RandomGenerator } from '../../data/random.js';
import { HeartwoodError, internal } from '../../errors/error.js';
import { encodeModel } from '../../onnx/encode.js';
import type { Runtime, Session } from '../../runtime/runtime.js';
import type { TensorValue } from '../../runtime/tensor.js';
import { AdamW } from '../../training/adamw.js';
import { Parameters } from '../../training/parameters.js';
import { learningRate } from '../../training/schedule.js';
import { mean as meanOf } from '../statistics/quantiles.js';
import { rankCorrelation } from '../statistics/rank-correlation.js';
import type { Probe } from '../stages/parameters.js';
import { applyProbe } from './probe.js';
import { gradientOf, probeGradientGraph, probeWeights } from './probe-graph.js';
import { prepareSamples, type PreparedSamples, type ProbeSamples, type TargetKind } from './samples.js';

export type { ProbeSamples, TargetKind } from './samples.js';

export interface FitOptions {
  readonly seed: number;
  /** What is predicted. Default 'log'. */
  readonly target?: TargetKind;
  /** Hidden units h. Default 16. */
  readonly hidden?: number;
  /** Default 20. */
  readonly epochs?: number;
  /** Images of one step, with all their rows. Default 32. */
  readonly batch?: number;
  /** Share of the features that each step leaves out. Default 0.2; without it the probe overfits. */
  readonly dropout?: number;
  /** Peak learning rate. Default 3e-3. */
  readonly rate?: number;
  readonly weightDecay?: number;
  /** Share of the images by which the fit is judged and to which it is not fitted. Default 0.15. */
  readonly heldOut?: number;
  readonly signal?: AbortSignal;
  readonly progress?: (done: number, total: number) => void;
}

/** A probe and how well it predicts images that it was not fitted to. */
export interface FittedProbe {
  /** For features that are not standardised. */
  readonly probe: Probe;
  /** 1 − Σ(t − t̂)² / Σ(t − t̄)² over the rows of the images held out; below 0 is worse than their mean. NaN where they do not vary. */
  readonly r2: number;
  /** Spearman's, of predicted and true over the same rows. */
  readonly rankCorrelation: number;
  /** Mean squared error of each epoch, in variances of the target, with dropout. */
  readonly losses: readonly number[];
}

/**
 * Fits the predictor of a stage: two layers, squared error on the standardised target, AdamW with a short warm-up and a cosine,
 * dropout on the inputs. Masks of the image features are drawn per image and step, not per token: the expected gradient is the
 * same, and the work a third. The same samples, options and runtime threads give the same bits.
 * @throws HeartwoodError INVALID_ARGUMENT (samples that do not fit together), CANCELLED
 */
export async function fitProbe(runtime: Runtime, samples: ProbeSamples, options: FitOptions): Promise<FittedProbe> {
  const { hidden = 16, heldOut = 0.15, seed } = options;
  const prepared = prepareSamples(samples, options.target ?? 'log', heldOut, seed);
  const parameters = new Parameters(probeWeights(prepared.hidden, hidden));
  initialise(parameters, prepared.hidden, hidden, randomFor(seed, 1));
  const session = await runtime.load(encodeModel(probeGradientGraph(prepared.hidden, hidden)), { prepacking: false });
  try {
    const losses = await descend(session, prepared, parameters, options);
    const probe = foldStandard(parameters, prepared, hidden);
    return { probe, ...judge(probe, prepared, samples), losses };
  } finally {
    await session.dispose();
  }
}

/** Uniform in ±1/√(inputs), as PyTorch's linear layers. */
function initialise(parameters: Parameters, D: number, h: number, random: RandomGenerator): void {
  for (const { name } of parameters.list) {
    const limit = 1 / Math.sqrt(name.startsWith('output') ? h : 3 * D);
    const view = parameters.view(name);
    for (let at = 0; at < view.length; at++) view[at] = (random.next() / 2 ** 31) * limit;
  }
}

async function descend(
  session: Session,
  prepared: PreparedSamples,
  parameters: Parameters,
  options: FitOptions,
): Promise<number[]> {
  const { seed, epochs = 20, batch: size = 32, dropout = 0.2, rate = 3e-3, weightDecay = 1e-2 } = options;
  const optimiser = new AdamW(parameters, { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay });
  const perEpoch = Math.ceil(prepared.fit.length / size);
  const total = epochs * perEpoch;
  const schedule = { peak: rate, warmupSteps: Math.ceil(total / 10), floor: 0 };
  const gradient = new Float32Array(parameters.values.length);
  const losses: number[] = [];
  let order: Int32Array;
  const batchAt = (step: number): Batch => {
    const [epoch, part] = [Math.floor(step / perEpoch), step % perEpoch];
    if (part === 0) order = permutation(prepared.fit.length, randomFor(seed, 2, epoch));
    const images = Array.from(order.subarray(part * size, (part + 1) * size), (at) => prepared.fit[at]!);
    return makeBatch(prepared, images, dropout, randomFor(seed, 3, step));
  };
  let next: Batch | undefined = batchAt(0);
  let [error, rows] = [0, 0];
  for (let step = 0; step < total; step++) {
    if (options.signal?.aborted)
      throw new HeartwoodError('CANCELLED', `the fit was stopped after ${step} of ${total} steps`);
    const batch: Batch = next!;
    const running = session.run({ ...parameters.feeds(), ...batch.feeds }, { transfer: false });
    // The next batch is made while the worker is at this one.
    next = step + 1 < total ? batchAt(step + 1) : undefined;
    const outputs = await running;
    for (const { name } of parameters.list) {
      const part = numbers(outputs, gradientOf(name));
      parameters.view(name, gradient).set(part.map((value) => value / batch.rows));
    }
    optimiser.update(gradient, learningRate(schedule, step, step / total), step + 1);
    error += numbers(outputs, 'loss')[0]!;
    rows += batch.rows;
    if ((step + 1) % perEpoch === 0) {
      losses.push(error / rows);
      [error, rows] = [0, 0];
    }
    options.progress?.(step + 1, total);
  }
  return losses;
}

interface Batch {
  readonly feeds: Record<string, TensorValue>;
  readonly rows: number;
}

/** The rows of some images with a share of their features set to zero and the others scaled up (inverted dropout). */
function makeBatch(
  prepared: PreparedSamples,
  images: readonly number[],
  dropout: number,
  random: RandomGenerator,
): Batch {
  const { hidden: D, rows: rowsOf, output } = prepared;
  const rows = images.reduce((sum, image) => sum + rowsOf[image]!.length, 0);
  const tokens = new Float32Array(rows * D);
  const shared = new Float32Array(images.length * 2 * D);
  const member = new Float32Array(rows * images.length);
  const target = new Float32Array(rows);
  let at = 0;
  images.forEach((image, place) => {
    shared.set(prepared.images.subarray(image * 2 * D, (image + 1) * 2 * D), place * 2 * D);
    for (const row of rowsOf[image]!) {
      tokens.set(prepared.tokens.subarray(row * D, (row + 1) * D), at * D);
      member[at * images.length + place] = 1;
      target[at++] = (prepared.target[row]! - output.mean) / output.deviation;
    }
  });
  drop(tokens, dropout, random);
  drop(shared, dropout, random);
  return {
    rows,
    feeds: {
      tokens: { type: 'float32', dims: [rows, D], data: tokens },
      images: { type: 'float32', dims: [images.length, 2 * D], data: shared },
      member: { type: 'float32', dims: [rows, images.length], data: member },
      target: { type: 'float32', dims: [rows, 1], data: target },
    },
  };
}

/** Inverted dropout in place; one draw of 32 bits serves two elements. */
function drop(values: Float32Array, share: number, random: RandomGenerator): void {
  const limit = Math.round(share * 65536);
  if (limit === 0) return;
  const keep = 65536 / (65536 - limit);
  for (let at = 0; at < values.length; at += 2) {
    const bits = random.next();
    values[at] = (bits & 0xffff) < limit ? 0 : values[at]! * keep;
    if (at + 1 < values.length) values[at + 1] = bits >>> 16 < limit ? 0 : values[at + 1]! * keep;
  }
}

/** With f = (z − m) / d:  f A = z (A / d) − (m / d) A, and σ (u w2 + b2) + μ. */
function foldStandard(parameters: Parameters, { hidden: D, features, output }: PreparedSamples, h: number): Probe {
  const bias = Float64Array.from(parameters.view('hidden.bias'));
  const fold = (weight: Float32Array, offset: number): Float32Array =>
    weight.map((value, at) => {
      const feature = offset + Math.floor(at / h);
      const folded = value / features.deviation[feature]!;
      bias[at % h]! -= features.mean[feature]! * folded;
      return folded;
    });
  const shared = parameters.view('shared.weight');
  const token = fold(parameters.view('tokens.weight'), 0);
  const classToken = fold(shared.subarray(0, D * h), D);
  const meanToken = fold(shared.subarray(D * h), 2 * D);
  return {
    token,
    classToken,
    meanToken,
    bias: Float32Array.from(bias),
    output: parameters.view('output.weight').map((value) => value * output.deviation),
    outputBias: Math.fround(parameters.view('output.bias')[0]! * output.deviation + output.mean),
  };
}

/** The folded probe on the images held out. */
function judge(
  probe: Probe,
  prepared: PreparedSamples,
  { cls, mean }: ProbeSamples,
): Pick<FittedProbe, 'r2' | 'rankCorrelation'> {
  const D = prepared.hidden;
  const rows = prepared.heldOut.flatMap((image) => [...prepared.rows[image]!]);
  const images = prepared.heldOut.flatMap((image) => new Array<number>(prepared.rows[image]!.length).fill(image));
  const z = new Float32Array(rows.length * D);
  rows.forEach((row, at) => z.set(prepared.z.subarray(row * D, (row + 1) * D), at * D));
  const predicted = applyProbe(probe, z, cls, mean, images);
  const truth = Float64Array.from(rows, (row) => prepared.target[row]!);
  const centre = meanOf(truth);
  let [residual, total] = [0, 0];
  truth.forEach((value, at) => {
    residual += (value - predicted[at]!) ** 2;
    total += (value - centre) ** 2;
  });
  return { r2: total > 0 ? 1 - residual / total : NaN, rankCorrelation: rankCorrelation(predicted, truth) };
}

function numbers(outputs: Record<string, TensorValue>, name: string): Float32Array {
  const data = outputs[name]?.data;
  if (!(data instanceof Float32Array)) throw internal(`the step of a probe gave no ${name}`);
  return data;
}
