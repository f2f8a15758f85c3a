/** A `tokenizer.json` without merges: a token for every byte, and one that ends a text. */
import { characterOf } from './byte-alphabet.js';
import { endOfText } from './documents.js';

/** The number of `<|endoftext|>`, as in the GPT-NeoX tokenizer; byte b is token b + 1. */
export const endOfTextId = 0;

/** Tokens of the byte tokenizer. */
export const byteVocabulary = 257;

/** The file in Hugging Face's format: the byte-level BPE of GPT-NeoX with an empty list of merges. */
export function byteTokenizerJson(): string {
  const byteLevel = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true };
  const file = {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: [
      {
        id: endOfTextId,
        content: endOfText,
        single_word: false,
        lstrip: false,
        rstrip: false,
        normalized: false,
        special: true,
      },
    ],
    normalizer: null,
    pre_tokenizer: byteLevel,
    post_processor: byteLevel,
    decoder: byteLevel,
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: false,
      vocab: Object.fromEntries([
        [endOfText, endOfTextId],
        ...characterOf.map((character, byte): [string, number] => [character, byte + 1]),
      ]),
      merges: [],
    },
  };
  return `${JSON.stringify(file, undefined, 2)}\n`;
}
