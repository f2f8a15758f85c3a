import { StopStrings } from './stop-strings.js';

/**
 * Text of tokens, which are strings of bytes: whole characters only, so that one which lies across tokens waits for its last; bytes that
 * are no UTF-8 become U+FFFD, and a character that is not whole at the end of the text is left out.
 */
export class TextAssembly {
  readonly #decoder = new TextDecoder('utf-8', { ignoreBOM: true });
  readonly #stops: StopStrings;

  constructor(stops: readonly string[]) {
    this.#stops = new StopStrings(stops);
  }

  /** Of the prompt: stop strings are not looked for in it, but a character may begin in it and end in the text. */
  echo(bytes: Uint8Array): string {
    return this.#decoder.decode(bytes, { stream: true });
  }

  push(bytes: Uint8Array): { text: string; stop?: string } {
    return this.#stops.push(this.#decoder.decode(bytes, { stream: true }));
  }

  /** What was held back. */
  end(): string {
    return this.#stops.end();
  }
}
