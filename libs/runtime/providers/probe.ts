import { messageOf } from '../../errors/error.js';
import { GraphBuilder } from '../../onnx/builder.js';
import { matMul } from '../../onnx/ops/index.js';
import { encodeModel } from '../../onnx/encode.js';
import type { SessionSettings, WorkerReply, WorkerRequest } from '../messages.js';
import { oneLine } from '../one-line.js';
import { WorkerQueue } from '../worker-queue.js';
import { type ProviderName, providers } from './index.js';

/** What a probe found of one provider. */
export interface Finding {
  readonly provider: ProviderName;
  /** Whether the runtime was built with it. */
  readonly built: boolean;
  /** Whether it made a session, and its product was right. */
  readonly works: boolean;
  /** Least time of the probe's product, its way to the device and back included. Where it works. */
  readonly runMs?: number;
  /** Why it does not work, in a line. */
  readonly reason?: string;
}

export type ProbeProvider = (provider: ProviderName) => Promise<Finding>;

/** The product is of two [n, n] matrices: 0.27 GFLOP, enough for an accelerator to show. */
const n = 512;
/** The first run allocates and compiles. */
const runs = 3;

/**
 * Finds out whether a provider works here, by running it: a session of one matrix product, no node of which may fall to another provider, and a
 * product that has to be right. In a process of its own, since a driver or library that does not fit the machine need not fail politely: what it may do
 * is abort the process, crash it, or hang, and then this one only reads of it. Never rejects.
 */
export async function probeProvider(provider: ProviderName): Promise<Finding> {
  const limitMs = providers[provider].probeLimitMs;
  const worker = new WorkerQueue<WorkerRequest, WorkerReply>({
    entry: new URL('../worker.js', import.meta.url),
    farewell: { kind: 'close' },
    label: `${provider} probe`,
    isolation: 'process',
    quiet: true,
    limitMs,
  });
  const ask = async <K extends WorkerReply['kind']>(kind: K, request: WorkerRequest) => {
    const { reply } = await worker.submit(() => ({ request, transfer: [] }));
    if (reply.kind === 'failed') throw new Error(reply.message);
    if (reply.kind !== kind) throw new Error(`the probe answered ${reply.kind} out of turn`);
    return reply as Extract<WorkerReply, { kind: K }>;
  };
  let built = true;
  try {
    built = (await ask('backends', { kind: 'backends' })).names.includes(provider);
    if (!built) return { provider, built, works: false, reason: 'this build of the runtime has none' };
    await ask('loaded', { kind: 'load', session: 1, model: productModel(), options: settingsOf(provider) });
    const x = signs();
    let runMs = Infinity;
    for (let run = 0; run < runs; run++) {
      const feeds = { x: { type: 'float32', dims: [n, n], data: x } } as const;
      const { outputs, durationMs } = await ask('result', { kind: 'run', session: 1, feeds, outputs: undefined });
      if (!isSquare(outputs['y']!.data as Float32Array, x))
        return { provider, built, works: false, reason: 'it multiplied two matrices, and the product was wrong' };
      runMs = Math.min(runMs, durationMs);
    }
    return { provider, built, works: true, runMs };
  } catch (thrown) {
    return { provider, built, works: false, reason: withoutSource(oneLine(messageOf(thrown))) };
  } finally {
    await worker.close(1000);
  }
}

function settingsOf(provider: ProviderName): SessionSettings {
  const common = { optimization: 'all', prepacking: true, profile: undefined, threads: 0, spinning: false } as const;
  return { ...common, provider, strict: true };
}

function productModel(): Uint8Array {
  const g = new GraphBuilder('probe');
  const x = g.input('x', 'float32', [n, n]);
  return encodeModel(g.build([g.named('y', matMul(g, x, x))]));
}

/** ±1 by a linear congruential generator: sums of their products are exact even where factors are rounded to ten bits. */
function signs(): Float32Array {
  let state = 1;
  return Float32Array.from({ length: n * n }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 31 === 1 ? 1 : -1;
  });
}

/** Whether y = x·x, by Freivalds' check: y·v = x·(x·v) for a vector of integers, in n² steps in place of n³. */
function isSquare(y: Float32Array, x: Float32Array): boolean {
  if (y.length !== n * n) return false;
  const v = Float64Array.from({ length: n }, (_, i) => ((i * 7919) % 101) - 50);
  const expected = times(x, times(x, v));
  return times(y, v).every((value, i) => value === expected[i]);
}

function times(matrix: Float32Array, vector: Float64Array): Float64Array {
  return Float64Array.from({ length: n }, (_, row) => {
    let sum = 0;
    for (let column = 0; column < n; column++) sum += matrix[row * n + column]! * vector[column]!;
    return sum;
  });
}

/** The runtime puts a place in its own source before what it says. */
function withoutSource(message: string): string {
  return message.replace(/^(\/\S+:\d+ .*? was false\. |Ort\w+: )/, '').replace(/[. ]+$/, '');
}
