import { join } from 'node:path';
import { randomFor } from '../../data/random.js';
import { writeSafetensors } from '../../models/safetensors.js';
import { writeRandomCheckpoint, type RandomShape } from '../../models/testing/random-checkpoint.js';
import type { Runtime } from '../../runtime/runtime.js';
import type { PruneContext, PruneRequest } from '../request.js';

/** A network that a test can prune in seconds: 17 tokens, three blocks. */
export const smallShape: RandomShape = {
  hidden: 24,
  layers: 3,
  heads: 3,
  intermediate: 40,
  imageSize: 16,
  patchSize: 4,
  classes: 5,
};

/** Writes the checkpoint and smooth random images with labels; gives what a request needs to name. */
export async function writeSmallModel(
  folder: string,
  samples = 240,
  shape: RandomShape = smallShape,
): Promise<Pick<PruneRequest, 'modelDirectory' | 'data'>> {
  const modelDirectory = await writeRandomCheckpoint(join(folder, 'checkpoint'), shape);
  const side = shape.imageSize;
  const pixels = new Float32Array(samples * 3 * side * side);
  const labels = new BigInt64Array(samples);
  for (let sample = 0; sample < samples; sample++) {
    const random = randomFor(77, sample);
    const uniform = () => random.next() / 2 ** 31;
    labels[sample] = BigInt((random.next() >>> 0) % shape.classes);
    for (let channel = 0; channel < 3; channel++) {
      const [a, b, c] = [uniform() * 0.6, uniform() * 0.6, uniform() * 3];
      const start = (sample * 3 + channel) * side * side;
      for (let at = 0; at < side * side; at++) {
        pixels[start + at] = Math.sin(a * (at % side) + b * Math.floor(at / side) + c) + 0.05 * uniform();
      }
    }
  }
  const data = join(folder, 'data.safetensors');
  await writeSafetensors(data, [
    {
      name: 'pixel_values',
      type: 'float32',
      shape: [samples, 3, side, side],
      bytes: new Uint8Array(pixels.buffer),
    },
    { name: 'labels', type: 'int64', shape: [samples], bytes: new Uint8Array(labels.buffer) },
  ]);
  return { modelDirectory, data };
}

/** A context that keeps stages in memory; `stopAfter` throws once that stage is kept, as a kill would. */
export function memoryContext(
  runtime: Runtime,
  workDirectory: string,
  options: { kept?: Map<string, unknown>; stopAfter?: string; signal?: AbortSignal } = {},
): PruneContext & { readonly computed: string[] } {
  const kept = options.kept ?? new Map<string, unknown>();
  const computed: string[] = [];
  return {
    runtime,
    workDirectory,
    signal: options.signal ?? new AbortController().signal,
    progress: () => undefined,
    computed,
    async checkpoint<T>(stage: string, compute: () => Promise<T>): Promise<T> {
      if (kept.has(stage)) return kept.get(stage) as T;
      const value = await compute();
      computed.push(stage);
      kept.set(stage, value);
      if (stage === options.stopAfter) throw new Error(`killed after ${stage}`);
      return value;
    },
  };
}
