import { curvatureFactors } from '../../curvature/factors.js';
import { meanSlopes } from '../../curvature/slopes.js';
import { invalid } from '../../errors/error.js';
import type { Checkpoint } from '../../models/checkpoint.js';
import { specOf } from '../../models/classifier.js';
import { IMAGE_CLASSIFICATION } from '../../store/manifest.js';
import { replacedTensors, writeArtefact } from '../artefact.js';
import { certifyingShare, type CalibrationData } from '../calibration/data.js';
import { openNetwork } from '../calibration/network.js';
import { preparePart } from '../calibration/samples.js';
import { openGatedNetwork } from '../fixed/gated.js';
import { classifierLayout } from '../fixed/layout.js';
import { squaredNorms } from '../fixed/magnitudes.js';
import type { Opened } from '../job.js';
import { writeLadder } from '../ladder/write-ladder.js';
import { meanOf } from '../measure/measure.js';
import { flopsAt } from '../../store/segments.js';
import { fixedUnits, type PruningTask, type TaskDraft } from './task.js';

/** Heads and neurons of an image classifier. */
export function imageTask(job: Opened<CalibrationData>): PruningTask {
  const { checkpoint, context, data, request } = job;
  const spec = specOf(checkpoint);
  const { tokens, special, hidden, headWidth } = spec;
  const fit = { dataset: data.dataset, indices: data.parts.fit };
  const quietly = {
    ...context,
    progress: ({ done, total, unit }: { done: number; total: number; unit: string }) =>
      context.progress({ stage: 'plan', done, total, unit }),
  };
  return {
    blocks: spec.blocks.length,
    predictions: 1,
    counted: { samples: 'samples', share: certifyingShare },
    units: (kinds) =>
      fixedUnits(spec.blocks, kinds, (kind, block) => {
        // The last block is computed for the special tokens alone, but for its keys and values.
        const asking = block === spec.blocks.length - 1 ? special : tokens;
        // Neuron: two products of hidden a token. Head: four of hidden × width, and two of width a pair of tokens.
        if (kind === 'neurons') return asking * (4 * hidden + 8);
        return 4 * (asking + tokens) * hidden * headWidth + asking * tokens * (4 * headWidth + 5);
      }),
    factors: (kinds) => curvatureFactors(checkpoint, fit, { kinds, seed: request.seed }, quietly),
    slopes: (kinds) => meanSlopes(checkpoint, fit, kinds, quietly),
    magnitudes: (kinds) => squaredNorms(checkpoint, classifierLayout(spec), kinds),
    byteUnits: notQuantised,
    uniformBits: notQuantised,
    async prepare(part) {
      const samples = await preparePart(job, part);
      return {
        openGated: async () => {
          const network = await openGatedNetwork(job);
          return {
            measure: (removed, left) => network.measure(samples, removed, left),
            dispose: () => network.dispose(),
          };
        },
        async measure(removed) {
          const replaced = await replacedTensors({ removed }, checkpoint);
          const network = await openNetwork(context.runtime, checkpoint, replaced, [], context);
          try {
            const losses = await network.measure(samples, []);
            return { losses, flops: meanOf(losses.kept.map((row) => flopsAt(network.segments, row, network.tokens))) };
          } finally {
            await network.dispose();
          }
        },
      };
    },
    async write(directory, plan, arrays) {
      await writeArtefact(directory, plan, checkpoint, arrays);
      const draft = imageDraft(checkpoint, plan.tokens?.stages.map(({ block }) => block) ?? []);
      if (request.ladder === undefined) return draft;
      return { ...draft, ladder: await writeLadder(directory, plan, checkpoint, arrays, request.ladder) };
    },
  };
}

function notQuantised(): never {
  throw invalid('bits: expected none for a classifier of images, whose weights are float32');
}

/** What the manifest of an image classifier says. @param stages the blocks of its merging stages */
export function imageDraft(checkpoint: Checkpoint, stages: number[]): TaskDraft {
  const spec = specOf(checkpoint);
  return {
    task: IMAGE_CLASSIFICATION,
    input: spec.image,
    labels: [...checkpoint.labels],
    preprocessing: checkpoint.preprocessing,
    tokens: { total: spec.tokens, special: spec.special, stages },
  };
}
