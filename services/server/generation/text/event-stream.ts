import type { GeneratedToken, GenerationEvent, TextEvent } from '../event.js';

/**
 * The events of one request on their way to its reader. A reader that is slow gets the texts that have come meanwhile as one, so that
 * what waits for it is never more than the text itself.
 */
export class EventStream implements AsyncIterableIterator<GenerationEvent> {
  #text: { text: string; tokens: GeneratedToken[] } | undefined;
  #last: GenerationEvent | undefined;
  #error: Error | undefined;
  #over = false;
  #waiting: { resolve: (result: IteratorResult<GenerationEvent>) => void; reject: (error: Error) => void } | undefined;

  /** @param left told when the reader leaves before the end */
  constructor(private readonly left: () => void) {}

  /** Whether nothing more is taken. */
  get ended(): boolean {
    return this.#last !== undefined || this.#error !== undefined || this.#over;
  }

  push(event: TextEvent): void {
    if (this.ended) return;
    if (this.#answer(event)) return;
    if (this.#text === undefined) this.#text = { text: event.text, tokens: [...event.tokens] };
    else {
      this.#text.text += event.text;
      for (const token of event.tokens) this.#text.tokens.push(token);
    }
  }

  end(event: GenerationEvent): void {
    if (this.ended) return;
    if (this.#answer(event)) this.#over = true;
    else this.#last = event;
  }

  /** What was generated before is still read. */
  fail(error: Error): void {
    if (this.ended) return;
    if (this.#waiting) {
      this.#over = true;
      this.#waiting.reject(error);
      this.#waiting = undefined;
    } else this.#error = error;
  }

  next(): Promise<IteratorResult<GenerationEvent>> {
    if (this.#text) {
      const value: TextEvent = { kind: 'text', ...this.#text };
      this.#text = undefined;
      return Promise.resolve({ value, done: false });
    }
    if (this.#last) {
      const value = this.#last;
      this.#last = undefined;
      this.#over = true;
      return Promise.resolve({ value, done: false });
    }
    if (this.#error) {
      const error = this.#error;
      this.#error = undefined;
      this.#over = true;
      return Promise.reject(error);
    }
    if (this.#over) return Promise.resolve({ value: undefined, done: true });
    return new Promise((resolve, reject) => (this.#waiting = { resolve, reject }));
  }

  return(): Promise<IteratorResult<GenerationEvent>> {
    const early = !this.ended;
    this.#over = true;
    this.#text = undefined;
    this.#last = undefined;
    this.#error = undefined;
    if (early) this.left();
    this.#waiting?.resolve({ value: undefined, done: true });
    this.#waiting = undefined;
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  #answer(value: GenerationEvent): boolean {
    if (this.#waiting === undefined) return false;
    this.#waiting.resolve({ value, done: false });
    this.#waiting = undefined;
    return true;
  }
}
