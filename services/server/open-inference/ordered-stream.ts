/**
 * Answers a stream in the order of its requests, up to `window` of them worked on at a time: while one is computed the next ones are
 * preprocessed. No more is read than that, so a client that sends faster than it is answered is held back by the transport.
 * When `until` aborts no further request is taken; those that were are answered. `handle` must not reject.
 */
export async function* answerInOrder<Request, Answer>(
  requests: AsyncIterable<Request>,
  window: number,
  handle: (request: Request) => Promise<Answer>,
  until: AbortSignal,
): AsyncGenerator<Answer, void, undefined> {
  const answers: Promise<Answer>[] = [];
  let ended = until.aborted;
  let failure: { error: unknown } | undefined;
  let wakeWriter = (): void => undefined;
  let wakeReader = (): void => undefined;

  const end = (): void => {
    ended = true;
    wakeWriter();
    wakeReader();
  };
  const read = async (): Promise<void> => {
    const iterator = requests[Symbol.asyncIterator]();
    while (!ended) {
      if (answers.length >= window) {
        await new Promise<void>((resolve) => (wakeReader = resolve));
        continue;
      }
      const next = await iterator.next();
      if (next.done === true || ended) break;
      answers.push(handle(next.value));
      wakeWriter();
    }
  };

  until.addEventListener('abort', end, { once: true });
  try {
    void read()
      .catch((error: unknown) => (failure = { error }))
      .finally(end);
    for (;;) {
      if (failure) throw failure.error;
      const answer = answers[0];
      if (answer !== undefined) {
        const value = await answer;
        void answers.shift();
        wakeReader();
        yield value;
      } else if (ended) return;
      else await new Promise<void>((resolve) => (wakeWriter = resolve));
    }
  } finally {
    until.removeEventListener('abort', end);
    end();
  }
}
