import type { BlockCache } from '../../models/generation-graph.js';
import type { Feeds, Session } from '../../runtime/runtime.js';
import type { TensorValue } from '../../runtime/tensor.js';
import { promptNames } from './served-graph.js';

/** A window of text as it is served: its prompt in chunks, then what follows it in one run that drops nothing. */
export interface ReplayOptions {
  /** Tokens of the window that are its prompt. */
  readonly prompt: number;
  /** Tokens of one run of the prompt. */
  readonly chunk: number;
  /** Further inputs of every run. */
  readonly feeds?: Feeds;
  /** Whether the prompt alone is run, for the stages' scores. */
  readonly promptAlone?: boolean;
}

export interface Replay {
  /** Of the prompt's last token and of those after it (of the prompt's alone, if that is all that was run), [answers, vocabulary]. */
  readonly logits: Float32Array;
  /** Tokens of the prompt that each stage let on. */
  readonly kept: readonly number[];
  /** The predictions of each stage for the prompt's tokens that came to it, where the graph tells them. */
  readonly scores: readonly Float32Array[];
  /** Milliseconds that the prompt took in the worker. */
  readonly prefillMs: number;
}

/** Runs one window through a generation graph (with stages, or without). */
export async function replay(
  session: Session,
  caches: readonly BlockCache[],
  window: BigInt64Array,
  { prompt, chunk, feeds = {}, promptAlone = false }: ReplayOptions,
): Promise<Replay> {
  const groups = 1 + Math.max(...caches.map(({ group }) => group));
  let past: Record<string, TensorValue> = emptyCaches(caches, window.length);
  let cached: TensorValue = { type: 'int32', dims: [1, groups], data: new Int32Array(groups) };
  const step = async (from: number, to: number, wanted: readonly number[]) => {
    const positions = Array.from({ length: to - from }, (_, i) => from + i);
    const { outputs, durationMs } = await session.runTimed({
      input_ids: { type: 'int64', dims: [1, to - from], data: window.slice(from, to) },
      positions: integers(positions),
      wanted: integers(wanted),
      cached,
      ...past,
      ...feeds,
    });
    cached = outputs['cached_after']!;
    past = Object.fromEntries(
      caches.flatMap((cache) => cache.past.map((name, i) => [name, outputs[cache.present[i]!]!])),
    );
    return { outputs, durationMs };
  };
  const kept = new Array<number>(groups - 1).fill(0);
  const scores: Float32Array[][] = kept.map(() => []);
  let prefillMs = 0;
  let last: Float32Array | undefined;
  for (let from = 0; from < prompt; from += chunk) {
    const to = Math.min(prompt, from + chunk);
    const { outputs, durationMs } = await step(from, to, [to - from - 1]);
    prefillMs += durationMs;
    last = outputs['logits']!.data as Float32Array;
    const count = outputs[promptNames.kept]?.data as Int32Array | undefined;
    kept.forEach((_, stage) => {
      kept[stage]! += count?.[stage] ?? 0;
      const score = outputs[promptNames.score(stage)];
      if (score) scores[stage]!.push(score.data as Float32Array);
    });
  }
  const parts = [last!];
  if (!promptAlone && prompt < window.length) {
    const every = Array.from({ length: window.length - prompt }, (_, i) => i);
    const { outputs } = await step(prompt, window.length, every);
    parts.push(outputs['logits']!.data as Float32Array);
  }
  return { logits: joined(parts), kept, scores: scores.map(joined), prefillMs };
}

function emptyCaches(caches: readonly BlockCache[], capacity: number): Record<string, TensorValue> {
  return Object.fromEntries(
    caches.flatMap(({ heads, width, past }) =>
      past.map((name): [string, TensorValue] => {
        const dims = [1, heads, capacity, width];
        return [name, { type: 'float32', dims, data: new Float32Array(heads * capacity * width) }];
      }),
    ),
  );
}

const integers = (values: readonly number[]): TensorValue => ({
  type: 'int64',
  dims: [1, values.length],
  data: BigInt64Array.from(values, (value) => BigInt(value)),
});

function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}
