import type { Tokenizer } from '../../../libs/data/text/tokenizer.js';

/** What the engine asks of a tokenizer. */
export interface Vocabulary {
  /** A prompt's tokens, with the special ones that the model expects before it. */
  encode(text: string): readonly number[];
  /** The UTF-8 bytes that a token stands for, not necessarily whole characters; none for a special token. */
  bytes(id: number): Uint8Array;
}

const nothing = new Uint8Array(0);

/** A GPT-NeoX model expects no special token before a prompt. */
export function vocabularyOf(tokenizer: Tokenizer): Vocabulary {
  return {
    encode: (text) => tokenizer.encode(text),
    bytes: (id) => (tokenizer.isSpecial(id) ? nothing : tokenizer.bytesOf(id)),
  };
}
