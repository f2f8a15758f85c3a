/** Merging stages and images for networks with random weights, where only shapes and times mean anything. */
import { randomFor, type RandomGenerator } from '../../libs/data/random.js';
import type { Checkpoint } from '../../libs/models/checkpoint.js';
import { countFlops } from '../../libs/onnx/flops.js';
import { openNetwork } from '../../libs/pruning/calibration/network.js';
import { placeThresholds } from '../../libs/pruning/calibration/table.js';
import type { PreparedSamples } from '../../libs/pruning/measure/prepared.js';
import { denseGraph } from '../../libs/pruning/served-graph.js';
import type { BudgetTable } from '../../libs/pruning/stages/budget.js';
import type { StageParameters } from '../../libs/pruning/stages/parameters.js';
import type { Runtime } from '../../libs/runtime/runtime.js';
import type { TensorValue } from '../../libs/runtime/tensor.js';

/** Of the shapes that the pruner fits for a wide model: directions of the metric, hidden units of the probe. */
const rank = 32;
const probeUnits = 16;
/** Samples that the thresholds are placed on. */
const placing = 6;

/** Stages of merging by curvature, two matchings each. */
export function randomStages(width: number, blocks: readonly number[]): StageParameters[] {
  return blocks.map((block): StageParameters => {
    const random = randomFor(7, block);
    const array = (length: number, scale: number) => Float32Array.from({ length }, () => scale * normal(random));
    const matrix = () => array(width * probeUnits, 1 / Math.sqrt(width));
    return {
      block,
      rule: 'merge',
      selection: 'value',
      matchings: 2,
      score: {
        policy: 'curvature',
        metric: array(width * rank, 1 / Math.sqrt(width)),
        probe: {
          token: matrix(),
          classToken: matrix(),
          meanToken: matrix(),
          bias: array(probeUnits, 0.3),
          output: array(probeUnits, 0.5),
          outputBias: -3,
        },
        massExponent: 1,
        influenceExponent: 0.5,
        imageExponent: -0.25,
      },
    };
  });
}

/**
 * A budget table whose row k saves the k-th share of the FLOPs on a few images, by the pruner's own placing of thresholds. Losses are
 * made up: nobody could measure one.
 */
export async function placedTable(
  runtime: Runtime,
  checkpoint: Checkpoint,
  stages: readonly StageParameters[],
  shares: readonly number[],
  workDirectory: string,
): Promise<BudgetTable> {
  const { signal } = new AbortController();
  const network = await openNetwork(runtime, checkpoint, new Map(), stages, { workDirectory, signal });
  try {
    const dense = countFlops(denseGraph(checkpoint), { B: 1 }).total;
    const pixels = imagesOf(placing, 224, 1);
    const samples: PreparedSamples = {
      size: placing,
      classes: 0,
      batches: [{ size: placing, pixels, labels: undefined, dense: [] }],
    };
    const rows: BudgetTable['rows'][number][] = [];
    for (const [at, share] of shares.entries()) {
      const thresholds = await placeThresholds(network, samples, share, dense);
      if (!thresholds) throw new Error(`the stages cannot save ${share} of the FLOPs`);
      rows.push({ flopsSaved: share, kl: 10 ** (at - 3), thresholds });
    }
    return { rows, scale: 1 };
  } finally {
    await network.dispose();
  }
}

/**
 * Images of unlike difficulty, [batch, 3, side, side]: a few slow waves, and noise that is strong in some and absent in others, so
 * that a threshold which all share keeps more tokens of the one than of the other.
 */
export function imagesOf(batch: number, side: number, seed: number): TensorValue {
  const data = new Float32Array(batch * 3 * side * side);
  let at = 0;
  for (let sample = 0; sample < batch; sample++) {
    const random = randomFor(seed, sample);
    const uniform = () => (random.next() >>> 0) / 2 ** 32;
    const noise = uniform();
    for (let channel = 0; channel < 3; channel++) {
      const [fx, fy, phase] = [6 * uniform(), 6 * uniform(), 6 * uniform()];
      for (let y = 0; y < side; y++) {
        for (let x = 0; x < side; x++) {
          const wave = Math.cos((2 * Math.PI * (fx * x + fy * y)) / side + phase);
          data[at++] = wave + noise * (2 * uniform() - 1);
        }
      }
    }
  }
  return { type: 'float32', dims: [batch, 3, side, side], data };
}

function normal(random: RandomGenerator): number {
  const uniform = () => ((random.next() >>> 0) + 0.5) / 2 ** 32;
  return Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
}
