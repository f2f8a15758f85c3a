/** Tokens per second of a model: by the graph alone, by the engine, and by streams of a server. */
import { z } from 'zod';
import { ModelRun } from '../../../services/server/generation/model-run.js';
import { generationSchema } from '../../../services/server/generation/settings.js';
import { greedy } from '../../../services/server/generation/request.js';
import type { GenerationEngine } from '../../../services/server/generation/engine.js';
import type { LoadedSubject } from './subject.js';

const never = new AbortController().signal;

/** One stream of tokens: when each came, milliseconds. */
export type Arrivals = readonly number[];

/**
 * Tokens per second of streams that ran side by side: counted while all of them were generating, from the last one's first token to the first
 * one's last.
 */
export function rateOf(streams: readonly Arrivals[]): number {
  const from = Math.max(...streams.map((times) => times[0]!));
  const to = Math.min(...streams.map((times) => times.at(-1)!));
  const tokens = streams.reduce((sum, times) => sum + times.filter((at) => at > from && at <= to).length, 0);
  return (1000 * tokens) / (to - from);
}

/** A caller's own loop: a run of the graph, whose logits come to this thread, the likeliest token, the next run. One sequence. */
export async function bareLoop(
  { session, model }: LoadedSubject,
  prompt: readonly number[],
  tokens: number,
): Promise<Arrivals> {
  const run = new ModelRun(model, session);
  const memory = await run.allocate(1, prompt.length + tokens);
  try {
    const { prefillChunk } = z.object(generationSchema).parse({});
    const step = async (ids: readonly number[], at: number): Promise<number> => {
      const input = {
        ...{ row: 0, ids: [ids], positions: [at], lengths: [[at]], budgets: [0] },
        wanted: [ids.length - 1],
      };
      const { outputs } = await session.runLate(() => run.run(input, []), { memory });
      return likeliest(run.read(outputs, input).logits[0]![0]!);
    };
    let id = 0;
    for (let at = 0; at < prompt.length; at += prefillChunk) id = await step(prompt.slice(at, at + prefillChunk), at);
    const times = [performance.now()];
    for (let at = prompt.length; times.length < tokens; at++) {
      id = await step([id], at);
      times.push(performance.now());
    }
    return times;
  } finally {
    await memory.free();
  }
}

/** One stream of the engine; `ids` are the tokens that it gave. */
export async function engineStream(
  engine: GenerationEngine,
  prompt: readonly number[],
  tokens: number,
): Promise<{ readonly times: Arrivals; readonly ids: readonly number[]; readonly firstTokenMs: number }> {
  const times: number[] = [];
  const ids: number[] = [];
  let firstTokenMs = NaN;
  const request = { prompt, sampling: greedy, maxTokens: tokens, ignoreEos: true };
  for await (const event of engine.generate(request, never)) {
    if (event.kind === 'end') firstTokenMs = event.timing.firstTokenMs;
    else {
      // A piece may bring several tokens, where the reader was late.
      for (const { id } of event.tokens) {
        times.push(performance.now());
        ids.push(id);
      }
    }
  }
  return { times, ids, firstTokenMs };
}

function likeliest(logits: Float32Array): number {
  let best = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[best]!) best = i;
  return best;
}
