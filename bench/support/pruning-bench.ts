/** What benchmarks of pruning share: an opened model, its calibration data by seed, and samples that calibration never sees. */
import { openDataset } from '../../libs/data/open.js';
import type { Dataset } from '../../libs/data/dataset.js';
import { permutation, randomFor } from '../../libs/data/random.js';
import { HeartwoodError } from '../../libs/errors/error.js';
import { asFloat32, openCheckpoint, type Checkpoint } from '../../libs/models/checkpoint.js';
import { specOf } from '../../libs/models/classifier.js';
import { countFlops } from '../../libs/onnx/flops.js';
import { openCalibration, type CalibrationData } from '../../libs/pruning/calibration/data.js';
import { batchFor, prepareSamples, type PreparedSamples } from '../../libs/pruning/measure/prepared.js';
import { denseGraph } from '../../libs/pruning/served-graph.js';
import { loadGraph } from '../../libs/runtime/load-graph.js';
import type { Runtime } from '../../libs/runtime/runtime.js';
import type { Subject } from './subjects.js';

export interface BenchContext {
  readonly runtime: Runtime;
  readonly workDirectory: string;
  readonly signal: AbortSignal;
}

/** A model under test. */
export interface OpenSubject {
  readonly name: string;
  readonly checkpoint: Checkpoint;
  readonly blocks: number;
  /** FLOPs of a sample of the unpruned model. */
  readonly dense: number;
  readonly labelled: boolean;
  /** By seed: the calibration data as the pruner splits them. */
  readonly calibrations: ReadonlyMap<number, CalibrationData>;
  /** Never part of any calibration. */
  readonly test: PreparedSamples;
  /** Reads samples and runs the unpruned model on them. */
  prepare(dataset: Dataset, indices: readonly number[]): Promise<PreparedSamples>;
  dispose(): Promise<void>;
}

export interface SubjectSizes {
  readonly seeds: readonly number[];
  /** Calibration samples. Default: the pruner's. */
  readonly samples?: number | undefined;
  /** Test samples at most. */
  readonly tests: number;
}

/** Fixed, so that all seeds are measured on the same test samples. */
const testSeed = 20;

/** Opens a model with its data. Throws FAILED_PRECONDITION when calibration leaves nothing to test on. */
export async function openSubject(
  { name, model, data, testData }: Subject,
  { seeds, samples, tests }: SubjectSizes,
  { runtime, workDirectory, signal }: BenchContext,
): Promise<OpenSubject> {
  const checkpoint = await asFloat32(await openCheckpoint(model), workDirectory);
  const spec = specOf(checkpoint);
  const calibrations = new Map<number, CalibrationData>();
  for (const seed of seeds) {
    calibrations.set(
      seed,
      await openCalibration(checkpoint, { data, seed, ...(samples === undefined ? {} : { samples }) }),
    );
  }
  const graph = denseGraph(checkpoint);
  const session = await loadGraph(runtime, graph, workDirectory);
  const prepare = (dataset: Dataset, indices: readonly number[]) =>
    prepareSamples(dataset, indices, session, spec.image, {
      batch: batchFor(spec.tokens, spec.hidden),
      signal,
      progress: () => undefined,
    });
  const unseen = await testSamples(checkpoint, data, testData, calibrations, tests);
  return {
    name,
    checkpoint,
    blocks: spec.blocks.length,
    dense: countFlops(graph, { B: 1 }).total,
    labelled: unseen.dataset.labelled,
    calibrations,
    test: await prepare(unseen.dataset, unseen.indices),
    prepare,
    dispose: () => session.dispose(),
  };
}

async function testSamples(
  checkpoint: Checkpoint,
  data: string,
  testData: string | undefined,
  calibrations: ReadonlyMap<number, CalibrationData>,
  tests: number,
): Promise<{ dataset: Dataset; indices: number[] }> {
  const { labels, preprocessing } = checkpoint;
  const dataset = await openDataset(testData ?? data, preprocessing, labels.length > 0 ? { classes: labels } : {});
  const used = new Set<number>();
  if (testData === undefined) {
    for (const { parts } of calibrations.values()) {
      for (const index of [...parts.fit, ...parts.search, ...parts.certify]) used.add(index);
    }
  }
  const order = permutation(dataset.size, randomFor(testSeed, dataset.size));
  const indices = Array.from(order)
    .filter((index) => !used.has(index))
    .slice(0, tests);
  if (indices.length === 0) {
    throw new HeartwoodError(
      'FAILED_PRECONDITION',
      `${data}: calibration leaves no samples to test on, expected --test-data or fewer --samples`,
    );
  }
  return { dataset, indices };
}
