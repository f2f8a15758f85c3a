/** A model's runs with nothing around them, in a session as a server has it: what the streams of a server are held against. */
import { join } from 'node:path';
import type { ResidentMemory } from '../../../libs/runtime/resident.js';
import { createRuntime } from '../../../libs/runtime/runtime.js';
import type { TextManifest } from '../../../libs/store/manifest.js';
import { servedModelFile } from '../../../libs/store/served-file.js';
import { languageModelSession } from '../../../services/server/catalog/served-language-model.js';
import { ModelRun } from '../../../services/server/generation/model-run.js';
import { argmax } from '../../../services/server/generation/sampling/largest.js';

export interface BareLoop {
  /**
   * Tokens a second of `rows` sequences in one batch, each of `from` tokens at the beginning and `from + steps` at the end.
   * @param capacity tokens that a row of the cache has room for; default the model's context
   */
  tokensPerSecond(rows: number, from: number, steps: number, capacity?: number): Promise<number>;
  close(): Promise<void>;
}

/** @param options rows of the cache, and the threads of a run */
export async function openBareLoop(
  directory: string,
  { text, files }: TextManifest,
  { most, threads }: { readonly most: number; readonly threads: number },
): Promise<BareLoop> {
  const runtime = createRuntime({ workers: 1, threads });
  const session = await runtime.load(join(directory, servedModelFile(files)), languageModelSession);
  const run = new ModelRun({ ...text, eosIds: text.eos }, session);
  const memories = new Map<number, ResidentMemory>();
  return {
    async tokensPerSecond(rows, from, steps, capacity = text.context) {
      const memory = memories.get(capacity) ?? (await run.allocate(most, capacity));
      memories.set(capacity, memory);
      let lengths: readonly (readonly number[])[] = Array.from({ length: rows }, () => [from]);
      let last = Array.from({ length: rows }, (_, row) => row + 1);
      const begun = performance.now();
      for (let step = 0; step < steps; step++) {
        const positions = lengths.map(([length]) => length!);
        const input = { row: 0, ids: last.map((id) => [id]), positions, lengths, budgets: [], wanted: [0] };
        const { feeds, ...how } = run.run(input, []);
        const outputs = await session.run(feeds, { memory, ...how });
        const output = run.read(outputs, input);
        lengths = output.lengths;
        last = output.logits.map(([logits]) => argmax(logits!));
      }
      return (1000 * rows * steps) / (performance.now() - begun);
    },
    close: () => runtime.close(),
  };
}
