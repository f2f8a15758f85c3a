/** What is used of the library, whose own declarations do not resolve under NodeNext (their imports lack the file's ending). */
declare module '@huggingface/tokenizers' {
  /** Of one class or another: `byte_encoder` marks ByteLevel, `tokenizers` a sequence. */
  export interface PreTokenizer {
    pattern?: RegExp;
    readonly byte_encoder?: Record<number, string>;
    /** Of ByteLevel: called for every word. */
    text_encoder?: { encode(word: string): Uint8Array };
    readonly tokenizers?: readonly (PreTokenizer | null)[];
  }
  /** Of one class or another: BPE calls `add_node` for every pair of parts of a word. */
  export interface Model {
    add_node?(queue: unknown, node: unknown): void;
  }
  export class Tokenizer {
    readonly model: Model;
    readonly pre_tokenizer: PreTokenizer | null;
    /** @param tokenizer a parsed tokenizer.json; @param config a parsed tokenizer_config.json */
    constructor(tokenizer: object, config: object);
    encode(text: string): { ids: (number | undefined)[] };
    token_to_id(token: string): number | undefined;
    get_vocab(withAddedTokens?: boolean): Map<string | undefined, number>;
  }
}
