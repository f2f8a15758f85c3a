import { MessageChannel } from 'node:worker_threads';

/** Below this the collector does as well, and Node keeps small Buffers together in shared memory that must stay. */
const leastBytes = 32 * 1024;

/** Closed: what is posted is dropped at once, and what moves along with it is freed. */
const { port1: nowhere } = new MessageChannel();
nowhere.close();

/**
 * Frees the memory of a buffer now; whatever views it is empty from then on. The collector would do it, but it looks at the JavaScript
 * heap first: it lets tens of MiB of buffers that nobody has lie about, which malloc then cannot hand out again in one piece.
 * Nothing happens to small buffers, and to those that are shared or were released or moved before.
 */
export function release({ buffer }: { readonly buffer: ArrayBufferLike }): void {
  if (buffer instanceof ArrayBuffer && buffer.byteLength >= leastBytes) nowhere.postMessage(undefined, [buffer]);
}
