/** What the engine asks of a tokenizer: libs/data/text has it of a tokenizer.json. */
export interface Vocabulary {
  /** A prompt's tokens, with the special ones that the model expects before it. */
  encode(text: string): readonly number[];
  /** The UTF-8 bytes that a token stands for, not necessarily whole characters; none for a special token. */
  bytes(id: number): Uint8Array;
}
