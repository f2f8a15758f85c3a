/**
 * node scripts/bench.mjs text-curvature [--json FILE] [--model DIR] [--data DATA] [--windows N] [--shape 410m] [--window T] [--skip-memory]
 *
 * Curvature of language models. What ½h foretells of quantising each matrix of a model against the KL that it measures, one matrix at a time
 * and all together; and the memory at its peak of scoring a Pythia in its real shape, with random weights, on one window of T tokens.
 */
import { readFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { bitMoves } from '../libs/curvature/bits.js';
import { curvatureFactors } from '../libs/curvature/factors.js';
import type { MatrixMove } from '../libs/curvature/matrix-moves.js';
import type { UnitKind } from '../libs/curvature/probe-graph.js';
import { scoreCheckpoint } from '../libs/curvature/score.js';
import { readTokens, windowDataset } from '../libs/data/text/dataset.js';
import { buildCausalLm } from '../libs/models/causal-lm.js';
import { asFloat32, openCheckpoint } from '../libs/models/checkpoint.js';
import { dequantise, quantise } from '../libs/models/quantisation/quantise.js';
import { readTensor } from '../libs/models/safetensors.js';
import { pythiaShapes, writeRandomCausalLm } from '../libs/models/testing/random-causal.js';
import { checkpointWeights } from '../libs/models/weights.js';
import type { Tensor } from '../libs/onnx/ir.js';
import { logSoftmax } from '../libs/onnx/ops/index.js';
import { floatTensor } from '../libs/onnx/tensor.js';
import { openWindows } from '../libs/pruning/text/data.js';
import { rankCorrelation } from '../libs/pruning/statistics/rank-correlation.js';
import { loadGraph } from '../libs/runtime/load-graph.js';
import { createRuntime } from '../libs/runtime/runtime.js';
import { barOf, printBars, writeOutcome, type Bar } from './support/outcome.js';

const { values: options } = parseArgs({
  options: {
    json: { type: 'string' },
    model: { type: 'string', default: 'models/demo-brown' },
    data: { type: 'string', default: 'demo:brown' },
    windows: { type: 'string', default: '16' },
    shape: { type: 'string', default: '410m' },
    window: { type: 'string', default: '512' },
    'skip-memory': { type: 'boolean', default: false },
  },
});
const positions = 128;
const workDirectory = await mkdtemp(join(tmpdir(), 'heartwood-bench-'));
const runtime = createRuntime();
const context = { runtime, workDirectory };
const rows: object[] = [];
const bars: Bar[] = [];
try {
  await foretold();
  if (!options['skip-memory']) await memory();
} finally {
  await runtime.close();
  await rm(workDirectory, { recursive: true, force: true });
}
printBars(bars);
await writeOutcome(options.json, { bench: 'text-curvature', rows, bars });

/** ½h of every matrix and width against the measured KL, nats per position, on the windows that h was taken of. */
async function foretold(): Promise<void> {
  const checkpoint = await asFloat32(await openCheckpoint(options.model), workDirectory);
  const dataset = await openWindows(checkpoint, options.data, positions);
  const count = Math.min(dataset.size, Number(options.windows));
  const indices = Array.from({ length: count }, (_, i) => Math.floor((i * dataset.size) / count));
  const { ids } = await readTokens(dataset, indices);
  const moves = await bitMoves(checkpoint, workDirectory);
  const { U, K } = await curvatureFactors(checkpoint, { dataset, indices }, { kinds: [], moves, seed: 0 }, context);
  const entry = (i: number, j: number) => {
    let sum = 0;
    for (let row = 0; row < U.length; row += moves.length) sum += U[row + i]! * U[row + j]!;
    return sum / K;
  };

  const answers = async (moved: readonly MatrixMove[]): Promise<{ logP: Float32Array; classes: number }> => {
    const replaced = new Map<string, Tensor>();
    for (const { matrix, bits, by } of moved) {
      const [height, width] = by.dims as [number, number];
      const values = dequantise(quantise(await readTensor(checkpoint.tensors.get(matrix)!), height, width, bits));
      replaced.set(matrix, floatTensor('float32', [height, width], values));
    }
    const weights = () => checkpointWeights(checkpoint, replaced);
    const { g, logits, spec } = buildCausalLm(checkpoint, { lowering: 'fused', positions, batch: count, weights });
    const session = await loadGraph(runtime, g.build([g.named('answer', logSoftmax(g, logits))]), workDirectory);
    const { answer } = await session.run({ input_ids: { type: 'int64', dims: [count, positions], data: ids } });
    await session.dispose();
    return { logP: answer!.data as Float32Array, classes: spec.vocabulary };
  };
  const dense = await answers([]);
  const measure = async (moved: readonly MatrixMove[]) => {
    const { logP } = await answers(moved);
    // KL(p ‖ q) = Σ p (log p − log q)
    const sum = dense.logP.reduce((total, value, at) => total + Math.exp(value) * (value - logP[at]!), 0);
    return sum / (count * positions);
  };

  for (const width of [8, 4]) {
    const of = moves.flatMap((move, at) => (move.bits === width ? [{ move, at }] : []));
    const predicted = of.map(({ at }) => entry(at, at) / 2);
    const measured: number[] = [];
    for (const { move } of of) measured.push(await measure([move]));
    const ratios = measured.map((kl, i) => kl / predicted[i]!);
    of.forEach(({ move }, i) =>
      rows.push({ matrix: move.matrix, bits: width, foretold: predicted[i], measured: measured[i] }),
    );
    const together = of.reduce((sum, a) => sum + of.reduce((row, b) => row + entry(a.at, b.at), 0), 0) / 2;
    const all = await measure(of.map(({ move }) => move));
    rows.push({ matrix: 'all', bits: width, foretold: together, measured: all });
    const order = rankCorrelation(predicted, measured);
    const [least, most] = [Math.min(...ratios), Math.max(...ratios)].map((ratio) => ratio.toFixed(2));
    console.log(`${width} bits: measured is ${least} to ${most} times ½h, rank correlation ${order.toFixed(3)}`);
    console.log(
      `  all matrices: ${together.toExponential(3)} foretold, ${all.toExponential(3)} nats per position measured`,
    );
    bars.push(barOf(`rank correlation at ${width} bits`, order, '>=', 0.9));
  }
}

/** Peak of this process while heads, neurons and matrices are scored, and heads under the cross-entropy. */
async function memory(): Promise<void> {
  const shape = pythiaShapes[options.shape as keyof typeof pythiaShapes];
  const length = Number(options.window);
  const checkpoint = await openCheckpoint(await writeRandomCausalLm(join(workDirectory, 'model'), shape));
  const ids = Int32Array.from({ length }, (_, i) => (7919 * i + i * i) % shape.vocabulary);
  const dataset = windowDataset('tokens', [{ name: 'tokens', ids }], length);
  const runs: [UnitKind[], 'kl' | 'cross-entropy', 'output-sketch' | 'gate-signs'][] = [
    [['heads', 'neurons', 'bits'], 'kl', 'output-sketch'],
    [['heads'], 'cross-entropy', 'gate-signs'],
  ];
  for (const [units, loss, estimator] of runs) {
    const started = performance.now();
    await scoreCheckpoint({ checkpoint, dataset, indices: [0], units, loss, estimator, probes: 2 }, context);
    const seconds = (performance.now() - started) / 1000;
    const gigabytes = peakBytes() / 1e9;
    rows.push({ shape: options.shape, window: length, units, loss, seconds, peakGigabytes: gigabytes });
    const what = `pythia-${options.shape}, a window of ${length}: ${units.join(', ')} under ${loss}`;
    console.log(`${what}: peak so far ${gigabytes.toFixed(2)} GB, ${seconds.toFixed(0)} s`);
    bars.push(barOf(`${what}: peak GB`, gigabytes, '<=', 8));
  }
}

/** The most memory that this process ever had resident, mapped files included. */
function peakBytes(): number {
  return 1024 * Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1]);
}
