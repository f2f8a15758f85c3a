/** An answer that comes in one piece, in the order of the requests; or in many, as they come, beside those of other requests. */
export type Reply<Answer> = { readonly once: Promise<Answer> } | { readonly pieces: AsyncIterable<Answer> };

/** How many requests of one stream are worked on at a time. */
export interface StreamWindow {
  /** That are answered in one piece. */
  readonly once: number;
  /** That are answered in many. */
  readonly pieces: number;
}

/**
 * Answers a stream, up to a window of its requests worked on at a time: while one is computed the next ones are prepared. Replies in one
 * piece keep the order of their requests; those in many take turns with all others, and hold nobody up. No more is read than the
 * window, and of each reply one piece, so a client that sends faster than it is answered, or reads slower, is held back by the transport.
 * When `until` aborts no further request is taken; those that were are answered. Replies must not reject. Leaving the iteration ends
 * the replies in many pieces.
 */
export async function* answerStream<Request, Answer>(
  requests: AsyncIterable<Request>,
  window: StreamWindow,
  handle: (request: Request) => Reply<Answer>,
  until: AbortSignal,
): AsyncGenerator<Answer, void, undefined> {
  const stream = new AnswerStream<Answer>(window);
  const stopReading = (): void => stream.stopReading();
  if (until.aborted) stopReading();
  until.addEventListener('abort', stopReading, { once: true });
  try {
    void stream.read(requests, handle);
    for (let answer = await stream.next(); answer !== undefined; answer = await stream.next()) yield answer.value;
  } finally {
    until.removeEventListener('abort', stopReading);
    stream.close();
  }
}

/** As `answerStream`, of requests that are all answered in one piece: in their order. `handle` must not reject. */
export function answerInOrder<Request, Answer>(
  requests: AsyncIterable<Request>,
  window: number,
  handle: (request: Request) => Promise<Answer>,
  until: AbortSignal,
): AsyncGenerator<Answer, void, undefined> {
  return answerStream(requests, { once: window, pieces: 1 }, (request) => ({ once: handle(request) }), until);
}

class AnswerStream<Answer> {
  /** Replies in one piece, in the order of their requests; `answer` is there when it has come. */
  readonly #ordered: { answer?: { value: Answer } }[] = [];
  /** Replies in pieces that have one ready; each gives its next one when this is taken. */
  readonly #ready: { value: Answer; again: () => void }[] = [];
  readonly #open = new Set<AsyncIterator<Answer>>();
  #ended = false;
  #failure: { error: unknown } | undefined;
  #wakeWriter = (): void => undefined;
  #wakeReader = (): void => undefined;

  constructor(private readonly window: StreamWindow) {}

  stopReading(): void {
    this.#ended = true;
    this.#wakeReader();
    this.#wakeWriter();
  }

  async read<Request>(requests: AsyncIterable<Request>, handle: (request: Request) => Reply<Answer>): Promise<void> {
    try {
      const iterator = requests[Symbol.asyncIterator]();
      while (!this.#ended) {
        if (this.#ordered.length >= this.window.once || this.#open.size >= this.window.pieces) {
          await new Promise<void>((resolve) => (this.#wakeReader = resolve));
          continue;
        }
        const next = await iterator.next();
        if (next.done === true || this.#ended) break;
        const reply = handle(next.value);
        if ('once' in reply) this.#addOnce(reply.once);
        else this.#addPieces(reply.pieces);
      }
    } catch (error) {
      this.#failure = { error };
    }
    this.stopReading();
  }

  /** The next answer that may be written; undefined when there are no more. Throws what reading the requests threw. */
  async next(): Promise<{ value: Answer } | undefined> {
    for (;;) {
      if (this.#failure) throw this.#failure.error;
      const first = this.#ordered[0]?.answer;
      if (first !== undefined) {
        this.#ordered.shift();
        this.#wakeReader();
        return first;
      }
      const piece = this.#ready.shift();
      if (piece !== undefined) {
        piece.again();
        return piece;
      }
      if (this.#ended && this.#ordered.length === 0 && this.#open.size === 0) return undefined;
      await new Promise<void>((resolve) => (this.#wakeWriter = resolve));
    }
  }

  /** Nobody waits for what is left: a reply in pieces that is between two of them ends once it has the next one. */
  close(): void {
    this.stopReading();
    for (const iterator of this.#open) void iterator.return?.().catch(() => undefined);
  }

  #addOnce(reply: Promise<Answer>): void {
    const place: { answer?: { value: Answer } } = {};
    this.#ordered.push(place);
    void reply.then(
      (value) => {
        place.answer = { value };
        this.#wakeWriter();
      },
      (error: unknown) => this.#fail(error),
    );
  }

  #addPieces(pieces: AsyncIterable<Answer>): void {
    const iterator = pieces[Symbol.asyncIterator]();
    this.#open.add(iterator);
    const ask = (): void => {
      void iterator.next().then(
        (next) => {
          if (next.done === true) {
            this.#open.delete(iterator);
            this.#wakeReader();
          } else this.#ready.push({ value: next.value, again: ask });
          this.#wakeWriter();
        },
        (error: unknown) => this.#fail(error),
      );
    };
    ask();
  }

  #fail(error: unknown): void {
    this.#failure ??= { error };
    this.#wakeWriter();
  }
}
