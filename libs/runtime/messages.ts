import type { TensorInfo, TensorValue } from './tensor.js';

/** What the main thread asks of a worker. One request is under way at a time; the queue is the main thread's. */
export type WorkerRequest =
  | {
      readonly kind: 'load';
      readonly session: number;
      readonly model: string | Uint8Array;
      readonly options: SessionSettings;
    }
  | {
      readonly kind: 'run';
      readonly session: number;
      readonly feeds: Record<string, TensorValue>;
      readonly outputs: readonly string[] | undefined;
    }
  | { readonly kind: 'dispose'; readonly session: number }
  | { readonly kind: 'close' };

/** Settings of one session as they cross to the worker; what each means is said at SessionOptions. */
export interface SessionSettings {
  readonly optimization: 'disabled' | 'basic' | 'extended' | 'all';
  readonly prepacking: boolean;
  readonly providers: readonly string[];
  readonly profile: string | undefined;
  readonly threads: number;
  readonly spinning: boolean;
}

export type WorkerReply =
  | { readonly kind: 'loaded'; readonly inputs: readonly TensorInfo[]; readonly outputs: readonly TensorInfo[] }
  | { readonly kind: 'result'; readonly outputs: Record<string, TensorValue>; readonly durationMs: number }
  | { readonly kind: 'done' }
  | { readonly kind: 'failed'; readonly message: string };
