import { setMaxListeners } from 'node:events';
import { type ErrorCode, HeartwoodError, internal } from '../../../libs/errors/error.js';
import { WorkerQueue } from '../../../libs/runtime/worker-queue.js';

export type EncodingRequest =
  | { readonly kind: 'open'; readonly source: string }
  | { readonly kind: 'encode'; readonly text: string }
  | { readonly kind: 'close' };

export type EncodingReply =
  | { readonly kind: 'tokens'; readonly ids: Int32Array }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'done' };

type Queue = WorkerQueue<EncodingRequest, EncodingReply>;

/** A thread that makes tokens of long texts: seconds of JavaScript for a megabyte, which would hold the event loop up. */
export class EncodingThread {
  #queue: Queue | undefined;
  #closed = false;

  /** @param source text of a tokenizer.json that has been read before. The thread is started at the first text. */
  constructor(private readonly source: string) {}

  /**
   * The tokens of a text, after those that came before it. When the signal aborts it rejects at once with the signal's reason where that
   * is a HeartwoodError, else CANCELLED; a text that is under way is encoded to its end for nobody. UNAVAILABLE when the thread dies.
   */
  async encode(text: string, signal: AbortSignal): Promise<number[]> {
    if (this.#closed) throw new HeartwoodError('UNAVAILABLE', 'the encoding worker is closed');
    const submitted = this.#open().submit(() => ({ request: { kind: 'encode', text }, transfer: [] }), { signal });
    const { reply } = await unlessAborted(submitted, signal);
    if (reply.kind === 'failed') throw new HeartwoodError(reply.code, reply.message);
    if (reply.kind !== 'tokens') throw internal(`the encoding worker answered ${reply.kind} out of turn`);
    return Array.from(reply.ids);
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#queue?.close();
  }

  /** The thread; one that was not started yet, or died, is started. */
  #open(): Queue {
    if (this.#queue?.alive) return this.#queue;
    const queue: Queue = new WorkerQueue({
      entry: new URL('./encoding-worker.js', import.meta.url),
      farewell: { kind: 'close' },
      label: 'encoding',
    });
    // What goes wrong with it is told by the first text.
    queue.submit(() => ({ request: { kind: 'open', source: this.source }, transfer: [] })).catch(() => undefined);
    this.#queue = queue;
    return queue;
  }
}

function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      const reason: unknown = signal.reason;
      reject(reason instanceof HeartwoodError ? reason : new HeartwoodError('CANCELLED', 'the request was cancelled'));
    };
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
    if (signal.aborted) return abort();
    setMaxListeners(0, signal);
    signal.addEventListener('abort', abort, { once: true });
  });
}
