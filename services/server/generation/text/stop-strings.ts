/**
 * Watches a text that comes in pieces for strings that end it, also where one lies across pieces: what could still become one is held
 * back. Where several end it, that is the one which is complete first, and of those the longest, however the pieces are cut.
 */
export class StopStrings {
  #held = '';

  constructor(private readonly stops: readonly string[]) {}

  /** The text that is free to go; with a `stop` it was the last, and what follows is of no matter. */
  push(piece: string): { text: string; stop?: string } {
    const text = this.#held + piece;
    let end = Infinity;
    let found: string | undefined;
    for (const stop of this.stops) {
      const at = text.indexOf(stop);
      if (at < 0) continue;
      const ends = at + stop.length;
      if (ends > end || (ends === end && stop.length <= (found?.length ?? 0))) continue;
      end = ends;
      found = stop;
    }
    if (found !== undefined) {
      this.#held = '';
      return { text: text.slice(0, end - found.length), stop: found };
    }
    const free = text.length - this.#prefixAtEnd(text);
    this.#held = text.slice(free);
    return { text: text.slice(0, free) };
  }

  /** What is held back, when no more comes. */
  end(): string {
    const rest = this.#held;
    this.#held = '';
    return rest;
  }

  /** The length of the longest end of the text that one of the strings begins with. */
  #prefixAtEnd(text: string): number {
    let longest = 0;
    for (const stop of this.stops) {
      for (let length = Math.min(stop.length - 1, text.length); length > longest; length--) {
        if (text.endsWith(stop.slice(0, length))) longest = length;
      }
    }
    return longest;
  }
}
