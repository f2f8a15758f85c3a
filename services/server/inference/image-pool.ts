import { type ErrorCode, HeartwoodError, internal } from '../../../libs/errors/error.js';
import type { ImagePreprocessing } from '../../../libs/models/preprocessing.js';
import { WorkerQueue } from '../../../libs/runtime/worker-queue.js';

export type ImageRequest =
  | {
      readonly kind: 'preprocess';
      readonly bytes: Uint8Array;
      readonly preprocessing: ImagePreprocessing;
      readonly name: string;
    }
  | { readonly kind: 'close' };

export type ImageReply =
  | { readonly kind: 'pixels'; readonly pixels: Float32Array }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string }
  | { readonly kind: 'done' };

type ImageThread = WorkerQueue<ImageRequest, ImageReply>;

/** Threads that turn encoded images into pixels. */
export class ImagePool {
  readonly #threads: (ImageThread | undefined)[];

  constructor(size: number) {
    this.#threads = Array.from({ length: size }, () => undefined);
  }

  /**
   * Decodes and preprocesses one encoded image: [C, H, W], float32. `name` is what an error calls it.
   * Throws INVALID_ARGUMENT (no image, or too many pixels), CANCELLED, UNAVAILABLE.
   */
  async preprocess(
    bytes: Uint8Array,
    preprocessing: ImagePreprocessing,
    name: string,
    signal: AbortSignal,
  ): Promise<Float32Array> {
    const prepare = () => {
      const copy = new Uint8Array(bytes);
      return { request: { kind: 'preprocess', bytes: copy, preprocessing, name } as const, transfer: [copy.buffer] };
    };
    const { reply } = await this.#leastBusy().submit(prepare, { signal });
    if (reply.kind === 'failed') throw new HeartwoodError(reply.code, reply.message);
    if (reply.kind !== 'pixels') throw internal(`the image worker answered ${reply.kind} out of turn`);
    return reply.pixels;
  }

  async close(): Promise<void> {
    await Promise.all(this.#threads.flatMap((thread) => (thread ? [thread.close()] : [])));
  }

  /** The thread with the shortest queue; a thread that was not started yet, or died, is started. */
  #leastBusy(): ImageThread {
    let best = 0;
    let shortest = Infinity;
    for (const [index, thread] of this.#threads.entries()) {
      const pending = thread?.alive ? thread.pending : 0;
      if (pending < shortest) [best, shortest] = [index, pending];
    }
    const present = this.#threads[best];
    if (present?.alive) return present;
    const started: ImageThread = new WorkerQueue({
      entry: new URL('./image-worker.js', import.meta.url),
      farewell: { kind: 'close' },
      label: 'image',
    });
    this.#threads[best] = started;
    return started;
  }
}
