import { HeartwoodError } from '../../../libs/errors/error.js';

/**
 * A client's messages. Once the signal aborts the next one throws CANCELLED, even while the client says nothing; a client that says
 * nothing for `idleMs` is told DEADLINE_EXCEEDED, since what it has sent is held for it.
 */
export async function* incomingMessages<T>(
  messages: AsyncIterable<T>,
  { signal, idleMs }: { readonly signal: AbortSignal; readonly idleMs: number },
): AsyncGenerator<T, void, undefined> {
  const iterator = messages[Symbol.asyncIterator]();
  let fail = (_: HeartwoodError): void => undefined;
  const failed = new Promise<never>((_, reject) => (fail = reject));
  // Nobody may be waiting when it comes.
  failed.catch(() => undefined);
  const abort = (): void => fail(new HeartwoodError('CANCELLED', 'the call was cancelled'));
  if (signal.aborted) abort();
  signal.addEventListener('abort', abort, { once: true });
  try {
    for (;;) {
      const late = setTimeout(
        () => fail(new HeartwoodError('DEADLINE_EXCEEDED', `the client has sent nothing for ${idleMs} ms`)),
        idleMs,
      );
      const next = await Promise.race([iterator.next(), failed]).finally(() => clearTimeout(late));
      if (next.done === true) return;
      yield next.value;
    }
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
