import { join } from 'node:path';
import type { Runtime, Session } from '../../../libs/runtime/runtime.js';
import type { TensorValue } from '../../../libs/runtime/tensor.js';
import { type ImageManifest, imageManifest } from '../../../libs/store/manifest.js';
import type { Repository } from '../../../libs/store/repository.js';
import { flopsOf, tokensKeptOf } from '../../server/inference/flops.js';

/** What one batch gave. */
export interface BatchAnswer {
  /** [n, classes]. */
  readonly logits: Float32Array;
  readonly classes: number;
  /** By sample, the tokens after each stage. */
  readonly kept: readonly (readonly number[])[];
  /** By sample. */
  readonly flops: readonly number[];
  /** Of the session's run alone. */
  readonly durationMs: number;
}

/** A version of a repository in a session of this process. */
export interface LoadedVersion {
  readonly version: number;
  readonly manifest: ImageManifest;
  /** Nats per sample that it runs at; null where it has no budget. */
  readonly budget: number | null;
  classify(pixels: Float32Array, samples: number, signal: AbortSignal): Promise<BatchAnswer>;
  dispose(): Promise<void>;
}

/** Loads a version after checking its files. `budget` replaces the version's default where it takes one. */
export async function loadVersion(
  repository: Repository,
  runtime: Runtime,
  model: string,
  version: number,
  options: { readonly budget?: number | undefined; readonly signal: AbortSignal },
): Promise<LoadedVersion> {
  const manifest = imageManifest(await repository.verify(model, version, options.signal));
  const session = await runtime.load(join(repository.versionDirectory(model, version), 'model.onnx'));
  const budget = manifest.budget === null ? null : (options.budget ?? manifest.budget.default);
  return {
    version,
    manifest,
    budget,
    classify: (pixels, samples, signal) => classify(session, manifest, budget, pixels, samples, signal),
    dispose: () => session.dispose(),
  };
}

async function classify(
  session: Session,
  manifest: ImageManifest,
  budget: number | null,
  pixels: Float32Array,
  samples: number,
  signal: AbortSignal,
): Promise<BatchAnswer> {
  const { channels, height, width } = manifest.input;
  const feeds: Record<string, TensorValue> = {
    pixel_values: { type: 'float32', dims: [samples, channels, height, width], data: pixels },
  };
  if (budget !== null) {
    feeds.budget = { type: 'float32', dims: [samples, 1], data: new Float32Array(samples).fill(budget) };
  }
  const { outputs, durationMs } = await session.runTimed(feeds, { signal });
  const logits = outputs.logits!;
  const kept = tokensKeptOf(manifest, outputs.tokens_kept, samples);
  return {
    logits: logits.data as Float32Array,
    classes: logits.dims[1]!,
    kept,
    flops: kept.map((row) => flopsOf(manifest, row)),
    durationMs,
  };
}
