import { createHash, timingSafeEqual } from 'node:crypto';
import { invalid } from '../../libs/errors/error.js';

/** Shorter ones can be guessed. */
const leastLength = 16;

/** The bearer tokens that let a call in. Their digests are kept, not they. */
export class Tokens {
  readonly #digests: readonly Buffer[];

  private constructor(tokens: readonly string[]) {
    this.#digests = tokens.map(digest);
  }

  /**
   * @param where the file or variable, as a message names it
   * @param text one token a line; empty lines and those that begin with # are none
   * @throws HeartwoodError INVALID_ARGUMENT, which never quotes the text
   */
  static parse(where: string, text: string): Tokens {
    const lines = text.split(/\r?\n/).map((line) => line.trim());
    const tokens = lines.filter((line) => line !== '' && !line.startsWith('#'));
    if (tokens.length === 0) throw invalid(`${where}: expected a bearer token, one a line, found none`);
    for (const token of tokens) {
      if (token.length < leastLength || !/^[\x21-\x7e]+$/.test(token)) {
        throw invalid(`${where}: expected tokens of ${leastLength} or more visible ASCII characters, one a line`);
      }
    }
    return new Tokens(tokens);
  }

  /** Whether the value of an `authorization` header carries one of the tokens; takes as long whichever it is, or none. */
  accept(authorization: string): boolean {
    const [, token] = /^bearer +(\S+)$/i.exec(authorization) ?? [];
    const given = digest(token ?? '');
    let accepted = false;
    for (const known of this.#digests) accepted = timingSafeEqual(known, given) || accepted;
    return accepted && token !== undefined;
  }
}

function digest(token: string): Buffer {
  return createHash('sha256').update(token).digest();
}
