/** An answer, and how many requests were dropped since the one before it. */
export interface WithDropped<Answer> {
  readonly answer: Answer;
  readonly dropped: number;
}

/**
 * Answers a stream one request at a time; of those that come while one is worked on only the newest is kept, so that an answer is
 * never older than one request's time. A camera that sends faster than it is answered is not held back: what it sends is read and
 * dropped. When `until` aborts no further request is taken. `handle` must not reject.
 */
export async function* answerNewest<Request, Answer>(
  requests: AsyncIterable<Request>,
  handle: (request: Request) => Promise<Answer>,
  until: AbortSignal,
): AsyncGenerator<WithDropped<Answer>, void, undefined> {
  let newest: { request: Request } | undefined;
  let dropped = 0;
  let ended = until.aborted;
  let failure: { error: unknown } | undefined;
  let wake = (): void => undefined;

  const end = (): void => {
    ended = true;
    wake();
  };
  const read = async (): Promise<void> => {
    for await (const request of requests) {
      if (ended) return;
      if (newest) dropped++;
      newest = { request };
      wake();
    }
  };

  until.addEventListener('abort', end, { once: true });
  try {
    void read()
      .catch((error: unknown) => (failure = { error }))
      .finally(end);
    for (;;) {
      if (failure) throw failure.error;
      if (newest) {
        const { request } = newest;
        const gone = dropped;
        [newest, dropped] = [undefined, 0];
        yield { answer: await handle(request), dropped: gone };
      } else if (ended) return;
      else await new Promise<void>((resolve) => (wake = resolve));
    }
  } finally {
    until.removeEventListener('abort', end);
    end();
  }
}
