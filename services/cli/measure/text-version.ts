import { join } from 'node:path';
import type { Runtime, Session } from '../../../libs/runtime/runtime.js';
import type { TensorValue } from '../../../libs/runtime/tensor.js';
import { textManifest, type TextManifest } from '../../../libs/store/manifest.js';
import { servedModelFile } from '../../../libs/store/served-file.js';
import type { Repository } from '../../../libs/store/repository.js';

/** A version of a language model in a session of this process, for whole windows of text. */
export interface LoadedTextVersion {
  readonly version: number;
  readonly manifest: TextManifest;
  /** Nats per token that it runs at; null where it has no budget. */
  readonly budget: number | null;
  /** Logits [wanted, vocabulary] after the tokens at these places of a window. */
  logits(window: Int32Array, wanted: readonly number[], signal: AbortSignal): Promise<Float32Array>;
  dispose(): Promise<void>;
}

/** Loads a version after checking its files. `budget` replaces the version's default where it takes one. */
export async function loadTextVersion(
  repository: Repository,
  runtime: Runtime,
  model: string,
  version: number,
  options: { readonly budget?: number | undefined; readonly signal: AbortSignal },
): Promise<LoadedTextVersion> {
  const manifest = textManifest(await repository.verify(model, version, options.signal));
  const file = servedModelFile(manifest.files);
  const session = await runtime.load(join(repository.versionDirectory(model, version), file), { inPlace: true });
  const budget = manifest.budget === null ? null : (options.budget ?? manifest.budget.default);
  return {
    version,
    manifest,
    budget,
    logits: (window, wanted, signal) => logitsOf(session, manifest, budget, window, wanted, signal),
    dispose: () => session.dispose(),
  };
}

/** One run over a whole window, with empty caches of its length. */
async function logitsOf(
  session: Session,
  { text }: TextManifest,
  budget: number | null,
  window: Int32Array,
  wanted: readonly number[],
  signal: AbortSignal,
): Promise<Float32Array> {
  const integers = (values: Iterable<number>, length: number): TensorValue => ({
    type: 'int64',
    dims: [1, length],
    data: BigInt64Array.from(values, BigInt),
  });
  const groups = text.stages.length + 1;
  const feeds: Record<string, TensorValue> = {
    input_ids: integers(window, window.length),
    positions: integers(window.keys(), window.length),
    wanted: integers(wanted, wanted.length),
    cached: { type: 'int32', dims: [1, groups], data: new Int32Array(groups) },
  };
  for (const [block, { heads, width }] of text.caches.entries()) {
    const dims = [1, heads, window.length, width];
    for (const side of ['key', 'value']) {
      feeds[`past.${block}.${side}`] = { type: 'float32', dims, data: new Float32Array(heads * window.length * width) };
    }
  }
  if (budget !== null) feeds['budget'] = { type: 'float32', dims: [1, 1], data: Float32Array.of(budget) };
  const { logits } = await session.run(feeds, { outputs: ['logits'], signal });
  return logits!.data as Float32Array;
}
