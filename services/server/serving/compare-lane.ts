import type { ServedClassifier } from '../catalog/served-version.js';
import type { Lane } from '../comparison/lane.js';
import type { Inference } from '../inference/inference.js';
import type { HeldBatch } from './compare-samples.js';

/** A served version as a lane: by the same road as every other call, so queueing, batching, metrics and energy are the served ones. */
export function laneOf(
  inference: Inference,
  { model, version, manifest }: ServedClassifier,
  budget: number | undefined,
): Lane<HeldBatch> {
  return {
    version,
    policy: manifest.method?.policy ?? 'unpruned',
    answer(batch, signal) {
      // A version without a budget has none to be asked with, whatever the others are compared at.
      const asked = manifest.budget === null ? undefined : budget;
      const contents = () => {
        const input = batch.input();
        return { inputs: new Map([[input.name, input]]), outputs: ['logits'], budget: asked };
      };
      const call = { model, version: String(version), purpose: 'comparison', contents } as const;
      return inference.infer(call, signal, ({ outputs, run }) => {
        const { data, dims } = outputs[0]!.value;
        return {
          logits: data as Float32Array,
          classes: dims[1]!,
          tokensKept: run.tokensKept,
          flops: run.flops,
          budget: run.budget,
        };
      });
    },
  };
}
