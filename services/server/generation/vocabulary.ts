import type { Tokenizer } from '../../../libs/data/text/tokenizer.js';
import { EncodingThread } from './encoding-thread.js';

/** What the engine asks of a tokenizer. */
export interface Vocabulary {
  /** Characters (UTF-16) of a text that one token stands for at most. */
  readonly longestToken: number;
  /** A prompt's tokens, with the special ones that the model expects before it. A long one holds the event loop up. */
  encode(text: string): readonly number[];
  /**
   * The same, at once of a short text; a long one in a thread of its own, after those that came before it. When the signal aborts it rejects at once with the
   * signal's reason where that is a HeartwoodError, else CANCELLED; with UNAVAILABLE when the thread dies or is closed.
   */
  encodeAside(text: string, signal: AbortSignal): readonly number[] | Promise<readonly number[]>;
  /** The UTF-8 bytes that a token stands for, not necessarily whole characters; none for a special token. */
  bytes(id: number): Uint8Array;
  /** Ends the thread, once it is done with the text that it is at. */
  close(): Promise<void>;
}

const nothing = new Uint8Array(0);

/** Characters of a text that is encoded where it is asked for: that takes less than the way to a thread and back. */
const shortText = 512;

/** A GPT-NeoX model expects no special token before a prompt. */
export function vocabularyOf(tokenizer: Tokenizer): Vocabulary {
  const thread = new EncodingThread(tokenizer.source);
  return {
    longestToken: tokenizer.longestToken,
    encode: (text) => tokenizer.encode(text),
    encodeAside: (text, signal) => (text.length <= shortText ? tokenizer.encode(text) : thread.encode(text, signal)),
    bytes: (id) => (tokenizer.isSpecial(id) ? nothing : tokenizer.bytesOf(id)),
    close: () => thread.close(),
  };
}

/** A text that begins with nothing begins with the token for that, where the model has one. */
export function beginningWith(bos: number | null, vocabulary: Vocabulary): Vocabulary {
  if (bos === null) return vocabulary;
  return {
    ...vocabulary,
    encode: (text) => (text === '' ? [bos] : vocabulary.encode(text)),
    encodeAside: (text, signal) => (text === '' ? [bos] : vocabulary.encodeAside(text, signal)),
  };
}
