import { setMaxListeners } from 'node:events';
import { type ErrorCode, HeartwoodError, internal } from '../../../libs/errors/error.js';
import { type Prepared, WorkerQueue } from '../../../libs/runtime/worker-queue.js';

export type EncodingRequest =
  /** `cancelled`: one Int32 of shared memory, the ticket of the text that is for nobody any more. */
  | { readonly kind: 'open'; readonly source: string; readonly cancelled: SharedArrayBuffer }
  | { readonly kind: 'encode'; readonly text: string; readonly ticket: number }
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
  readonly #cancelled = new Int32Array(new SharedArrayBuffer(4));
  /** Of the texts so far, from 1; shared memory takes the lower 32 bits. */
  #tickets = 0;
  /** The ticket of the text that the thread is at. */
  #current = 0;

  /** @param source text of a tokenizer.json that has been read before. The thread is started at the first text. */
  constructor(private readonly source: string) {}

  /**
   * The tokens of a text, after those that came before it. When the signal aborts it rejects at once with the signal's reason where that
   * is a HeartwoodError, else CANCELLED; the thread leaves a text that it is at within a few words. UNAVAILABLE when the thread dies.
   */
  async encode(text: string, signal: AbortSignal): Promise<number[]> {
    if (this.#closed) throw new HeartwoodError('UNAVAILABLE', 'the encoding worker is closed');
    const ticket = (this.#tickets = (this.#tickets + 1) | 0);
    const begin = (): Prepared<EncodingRequest> => {
      this.#current = ticket;
      return { request: { kind: 'encode', text, ticket }, transfer: [] };
    };
    const submitted = this.#open().submit(begin, { signal });
    const { reply } = await unlessAborted(submitted, signal, () => {
      // One that waits leaves the queue by itself.
      if (this.#current === ticket) Atomics.store(this.#cancelled, 0, ticket);
    });
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
    const request = { kind: 'open', source: this.source, cancelled: this.#cancelled.buffer } as const;
    queue.submit(() => ({ request, transfer: [] })).catch(() => undefined);
    this.#queue = queue;
    return queue;
  }
}

function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal, onAbort: () => void): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = (): void => {
      onAbort();
      const reason: unknown = signal.reason;
      reject(reason instanceof HeartwoodError ? reason : new HeartwoodError('CANCELLED', 'the request was cancelled'));
    };
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort));
    if (signal.aborted) return abort();
    setMaxListeners(0, signal);
    signal.addEventListener('abort', abort, { once: true });
  });
}
