import type { GeneratedToken, GenerationEvent, TextEvent } from '../event.js';

/**
 * The events of one request on their way to its reader. What a message costs is the same for a token and for ten, and a reader gains
 * nothing from pieces that come closer together than it can show: a text that comes quicker is handed on in pieces of so many milliseconds,
 * its beginning and its end at once. So is a reader served that is slow: what waits for it is never more than the text itself.
 */
export class EventStream implements AsyncIterableIterator<GenerationEvent> {
  #text: { text: string; tokens: GeneratedToken[] } | undefined;
  #last: GenerationEvent | undefined;
  #error: Error | undefined;
  #over = false;
  #waiting: { resolve: (result: IteratorResult<GenerationEvent>) => void; reject: (error: Error) => void } | undefined;
  /** When the last piece was handed on. */
  #handedAt = -Infinity;
  #timer: NodeJS.Timeout | undefined;

  /**
   * @param left told when the reader leaves before the end
   * @param intervalMs between two pieces at least
   */
  constructor(
    private readonly left: () => void,
    private readonly intervalMs: number,
  ) {}

  /** Whether nothing more is taken. */
  get ended(): boolean {
    return this.#last !== undefined || this.#error !== undefined || this.#over;
  }

  push({ text, tokens }: TextEvent): void {
    if (this.ended) return;
    if (this.#text === undefined) this.#text = { text, tokens: [...tokens] };
    else {
      this.#text.text += text;
      for (const token of tokens) this.#text.tokens.push(token);
    }
    if (this.#waiting) this.#answerInTime();
  }

  end(event: GenerationEvent): void {
    if (this.ended) return;
    this.#last = event;
    this.#answer();
  }

  /** What was generated before is still read. */
  fail(error: Error): void {
    if (this.ended) return;
    this.#error = error;
    this.#answer();
  }

  next(): Promise<IteratorResult<GenerationEvent>> {
    return new Promise((resolve, reject) => {
      this.#waiting = { resolve, reject };
      if (this.#text && !this.ended) this.#answerInTime();
      else if (this.ended) this.#answer();
    });
  }

  return(): Promise<IteratorResult<GenerationEvent>> {
    const early = !this.ended;
    this.#over = true;
    this.#text = undefined;
    this.#last = undefined;
    this.#error = undefined;
    if (early) this.left();
    this.#answer();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** The text so far, now or when it is time. */
  #answerInTime(): void {
    const early = this.#handedAt + this.intervalMs - performance.now();
    if (early <= 0) this.#answer();
    else this.#timer ??= setTimeout(() => this.#answer(), Math.ceil(early));
  }

  /** What comes next, to the reader if it waits. */
  #answer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const waiting = this.#waiting;
    if (waiting === undefined) return;
    this.#waiting = undefined;
    if (this.#text) {
      const value: TextEvent = { kind: 'text', ...this.#text };
      this.#text = undefined;
      this.#handedAt = performance.now();
      return waiting.resolve({ value, done: false });
    }
    const [last, error] = [this.#last, this.#error];
    this.#over = true;
    this.#last = undefined;
    this.#error = undefined;
    if (last) waiting.resolve({ value: last, done: false });
    else if (error) waiting.reject(error);
    else waiting.resolve({ value: undefined, done: true });
  }
}
