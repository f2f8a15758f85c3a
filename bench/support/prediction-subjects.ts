/** The bundled models, as bench:prediction takes them: heads and neurons of a classifier of images, and of a language model. */
import { permutation, randomFor } from '../../libs/data/random.js';
import { openDataset } from '../../libs/data/open.js';
import { causalSpecOf } from '../../libs/models/causal-lm.js';
import { asFloat32, openCheckpoint } from '../../libs/models/checkpoint.js';
import { openCalibration, type CalibrationData } from '../../libs/pruning/calibration/data.js';
import { denseGraph } from '../../libs/pruning/served-graph.js';
import { imageTask } from '../../libs/pruning/tasks/images.js';
import { unitParameters } from '../../libs/pruning/text/cost.js';
import { countFlops } from '../../libs/onnx/flops.js';
import type { PredictionSubject } from './prediction-rows.js';
import type { BenchContext } from './pruning-bench.js';
import { demoSubject } from './subjects.js';
import { demoText, openTextSubject } from './text-subject.js';

export interface PredictionSizes {
  readonly seed: number;
  /** Calibration samples, and those that are tested on. */
  readonly windows: number;
  readonly testWindows: number;
  readonly images: number;
  readonly testImages: number;
}

/** By parameters. */
export async function textPrediction(
  { seed, windows, testWindows }: PredictionSizes,
  context: BenchContext,
): Promise<PredictionSubject> {
  const subject = await openTextSubject(demoText, { seeds: [seed], samples: windows, tests: testWindows }, context);
  const spec = causalSpecOf(subject.checkpoint);
  return {
    name: subject.name,
    job: await subject.jobOf(seed, {}),
    cost: ({ kind }) => unitParameters(spec, kind),
    test: await subject.test.openGated(),
  };
}

/** By FLOPs. */
export async function imagePrediction(
  { seed, images, testImages }: PredictionSizes,
  context: BenchContext,
): Promise<PredictionSubject> {
  const { name, model, data, testData } = demoSubject;
  const checkpoint = await asFloat32(await openCheckpoint(model), context.workDirectory);
  const dense = countFlops(denseGraph(checkpoint), { B: 1 }).total;
  const taskOn = (calibration: CalibrationData) => {
    const job = {
      request: {
        ...{ modelDirectory: model, data, name: 'bench', repository: '', units: ['heads', 'neurons'] },
        ...({ policy: 'curvature', loss: 'kl', confidence: 0.95 } as const),
        seed,
      },
      context: {
        ...context,
        progress: () => undefined,
        checkpoint: <T>(_: string, compute: () => Promise<T>) => compute(),
      },
      checkpoint,
      data: calibration,
      dense,
    };
    return { ...job, task: imageTask(job) };
  };
  const unseen = await openDataset(testData!, checkpoint.preprocessing, { classes: checkpoint.labels });
  const certify = Array.from(permutation(unseen.size, randomFor(20, unseen.size))).slice(0, testImages);
  const test = taskOn({ dataset: unseen, parts: { fit: [], search: [], certify } });
  return {
    name,
    job: taskOn(await openCalibration(checkpoint, { data, seed, samples: images })),
    cost: (unit) => unit.cost,
    test: await (await test.task.prepare('certify')).openGated(),
  };
}
