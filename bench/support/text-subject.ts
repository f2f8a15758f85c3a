/** A language model under test: its calibration text by seed, and documents that calibration never sees. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { permutation, randomFor } from '../../libs/data/random.js';
import { HeartwoodError } from '../../libs/errors/error.js';
import { causalSpecOf } from '../../libs/models/causal-lm.js';
import { asFloat32, openCheckpoint, type Checkpoint } from '../../libs/models/checkpoint.js';
import type { AnyJob } from '../../libs/pruning/job.js';
import type { PruneRequest } from '../../libs/pruning/request.js';
import type { PreparedPart, PruningTask } from '../../libs/pruning/tasks/task.js';
import { textTask } from '../../libs/pruning/tasks/text.js';
import { textCost } from '../../libs/pruning/text/cost.js';
import { openTextCalibration, openWindows, type TextCalibration } from '../../libs/pruning/text/data.js';
import type { BenchContext } from './pruning-bench.js';

const root = fileURLToPath(new URL('../../..', import.meta.url));

export interface TextSubject {
  readonly name: string;
  readonly checkpoint: Checkpoint;
  readonly seeds: readonly number[];
  /** Documents that no calibration sees, with the unpruned model's answers to them. */
  readonly test: PreparedPart;
  readonly testWindows: number;
  /** A job on the calibration text of a seed, as the pruner would open it. */
  jobOf(seed: number, wish: Partial<PruneRequest>): Promise<AnyJob>;
}

export interface TextSizes {
  readonly seeds: readonly number[];
  /** Calibration windows. Default: the pruner's. */
  readonly samples?: number | undefined;
  /** Test windows at most. */
  readonly tests: number;
  readonly window?: number | undefined;
}

/** The bundled model and text. */
export const demoText = {
  model: join(root, 'models/demo-brown'),
  data: 'demo:brown/validation',
  testData: 'demo:brown/test',
};

/** Opens a model with its text. Test data are other documents: those of `testData`. */
export async function openTextSubject(
  { model, data, testData }: typeof demoText,
  { seeds, samples, tests, window }: TextSizes,
  context: BenchContext,
): Promise<TextSubject> {
  const checkpoint = await asFloat32(await openCheckpoint(model), context.workDirectory);
  const quiet = {
    ...context,
    progress: () => undefined,
    checkpoint: <T>(_: string, compute: () => Promise<T>) => compute(),
  };
  const sizes = { ...(samples === undefined ? {} : { samples }), ...(window === undefined ? {} : { window }) };
  const request = (seed: number): PruneRequest => ({
    ...{ modelDirectory: model, data, name: 'bench', repository: '', units: ['heads', 'neurons'], policy: 'curvature' },
    ...{ loss: 'kl', seed, confidence: 0.95 },
    ...sizes,
  });
  const opened = (seed: number, text: TextCalibration, wish: Partial<PruneRequest> = {}) => {
    const dense = textCost(causalSpecOf(checkpoint)).flops;
    return { request: { ...request(seed), ...wish }, context: quiet, checkpoint, data: text, dense };
  };
  const tasks = new Map<number, { readonly data: TextCalibration; readonly task: PruningTask }>();
  const unseen = await openWindows(checkpoint, testData, window);
  if (unseen.size === 0) throw new HeartwoodError('FAILED_PRECONDITION', `${testData}: no window of text to test on`);
  const certify = Array.from(permutation(unseen.size, randomFor(20, unseen.size))).slice(0, tests);
  const onTest = opened(0, { dataset: unseen, parts: { fit: [], search: [], certify } });
  return {
    name: checkpoint.directory.split('/').at(-1)!,
    checkpoint,
    seeds,
    test: await textTask(onTest).prepare('certify'),
    testWindows: certify.length,
    async jobOf(seed, wish) {
      const known = tasks.get(seed);
      const data = known?.data ?? (await openTextCalibration(checkpoint, request(seed)));
      const job = opened(seed, data, wish);
      const task = known?.task ?? measuredOnce(textTask(job));
      tasks.set(seed, { data, task });
      return { ...job, task };
    },
  };
}

/** A task that does its longest work once for all jobs of a seed: it depends on nothing else that they differ in. */
function measuredOnce(task: PruningTask): PruningTask {
  const kept = new Map<string, Promise<unknown>>();
  const once = <T>(key: string, compute: () => Promise<T>): Promise<T> => {
    const known = kept.get(key) ?? compute();
    kept.set(key, known);
    return known as Promise<T>;
  };
  return {
    ...task,
    factors: (...given) => once(`factors ${JSON.stringify(given)}`, () => task.factors(...given)),
    prepare: (part) => once(`prepare ${part}`, () => task.prepare(part)),
  };
}
