/**
 * A `tokenizer.json` of Hugging Face: text to token numbers by the library `@huggingface/tokenizers`, and numbers to bytes. Every
 * GPT-NeoX model has a byte-level one, where a token is a string of bytes: a character may lie across several tokens.
 */
import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { Tokenizer as Library, type PreTokenizer } from '@huggingface/tokenizers';
import { z } from 'zod';
import { HeartwoodError, internal, invalid, messageOf } from '../../errors/error.js';
import { bytesOfToken, characterOf } from './byte-alphabet.js';

const decoderSchema = z.looseObject({
  type: z.string(),
  decoders: z.array(z.looseObject({ type: z.string() })).optional(),
});
const fileSchema = z.looseObject({
  model: z.looseObject({ type: z.string().optional() }),
  decoder: decoderSchema.nullish(),
  normalizer: z.looseObject({ type: z.string().optional() }).nullish(),
  added_tokens: z
    .array(
      z.looseObject({
        id: z.int().min(0),
        content: z.string(),
        special: z.boolean().optional(),
        lstrip: z.boolean().optional(),
        rstrip: z.boolean().optional(),
      }),
    )
    .default([]),
});

/**
 * GPT-2's words, by White_Space, which is what \s means to the reference: JavaScript's has U+FEFF more and U+0085 less, and on those the
 * library's own pattern goes astray.
 */
const words =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** Gives ByteLevel pre-tokenizers, alone or within a sequence, that pattern. */
function correctWords(preTokenizer: PreTokenizer | null): void {
  for (const inner of preTokenizer?.tokenizers ?? []) correctWords(inner);
  if (preTokenizer?.byte_encoder && preTokenizer.pattern) preTokenizer.pattern = words;
}

/**
 * Has a function called while the library is at work, whose `encode` is one long call: for every word that is taken apart, and since a
 * text may be one word, for every pair of its parts that may become one.
 */
function watchWork({ pre_tokenizer: preTokenizer, model }: Library, watch: () => void): void {
  watchWords(preTokenizer, watch);
  const addNode = model.add_node?.bind(model);
  if (addNode === undefined) return;
  model.add_node = (queue, node) => {
    watch();
    addNode(queue, node);
  };
}

function watchWords(preTokenizer: PreTokenizer | null, watch: () => void): void {
  for (const inner of preTokenizer?.tokenizers ?? []) watchWords(inner, watch);
  const encoder = preTokenizer?.text_encoder;
  if (!encoder) return;
  preTokenizer.text_encoder = {
    encode(word) {
      watch();
      return encoder.encode(word);
    },
  };
}

const nothing = new Uint8Array(0);

/** Text to token numbers and back. Made by {@link openTokenizer} or {@link parseTokenizer}. */
export class Tokenizer {
  private readonly bytes: readonly Uint8Array[];
  /** Called as a text is encoded, some thousand times a second. */
  private watch: (() => void) | undefined;

  /** @param special numbers of the special tokens */
  constructor(
    private readonly library: Library,
    private readonly special: ReadonlySet<number>,
    /** SHA-256 of the file, hexadecimal. */
    readonly digest: string,
    /** Text of the file. */
    readonly source: string,
    /** Characters (UTF-16) of a text that one token stands for at most: a text of more than so many for each token has more tokens. */
    readonly longestToken: number,
  ) {
    const bytes: Uint8Array[] = [];
    for (const [token, id] of library.get_vocab(true)) bytes[id] = token === undefined ? nothing : bytesOfToken(token);
    this.bytes = bytes;
    watchWork(library, () => this.watch?.());
  }

  /** Token numbers are below this. A model may have more rows than that: they are padding, and stand for no text. */
  get vocabulary(): number {
    return this.bytes.length;
  }

  /**
   * The tokens of a text, special ones included where they are written out in it (`<|endoftext|>`).
   * @param watch called again and again meanwhile; what it throws ends the work
   */
  encode(text: string, watch?: () => void): number[] {
    if (text.length === 0) return [];
    this.watch = watch;
    try {
      return this.library.encode(text).ids.map((id, at) => {
        if (id === undefined) throw internal(`the tokenizer has no number for token ${at} of a text`);
        return id;
      });
    } finally {
      this.watch = undefined;
    }
  }

  /** The bytes of one token, which need not be whole characters; none for a number that has no token. Throws OUT_OF_RANGE below 0. */
  bytesOf(id: number): Uint8Array {
    if (!Number.isInteger(id) || id < 0)
      throw new HeartwoodError('OUT_OF_RANGE', `token ${id}: expected an integer from 0 up`);
    return this.bytes[id] ?? nothing;
  }

  /** The text of tokens, without the special ones unless they are kept; bytes that are no whole character come out as U+FFFD. */
  decode(ids: Iterable<number>, special: 'skip' | 'keep' = 'skip'): string {
    const parts: Uint8Array[] = [];
    for (const id of ids) if (special === 'keep' || !this.isSpecial(id)) parts.push(this.bytesOf(id));
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(parts));
  }

  /** Whether a token is one that marks (the end of a text, say), and is no text. */
  isSpecial(id: number): boolean {
    return this.special.has(id);
  }

  /** The number of a token by its string in the vocabulary, such as `<|endoftext|>`. */
  idOf(token: string): number | undefined {
    return this.library.token_to_id(token);
  }
}

/**
 * Reads a `tokenizer.json`. Throws NOT_FOUND, INVALID_ARGUMENT on a file that is none and on a tokenizer that is not byte-level.
 */
export async function openTokenizer(path: string): Promise<Tokenizer> {
  let text: string;
  try {
    // Decoded so, it loses the byte order mark that some editors put before a text.
    text = new TextDecoder().decode(await readFile(path));
  } catch (error) {
    throw new HeartwoodError('NOT_FOUND', `${path} cannot be opened: ${messageOf(error)}`, { cause: error });
  }
  return parseTokenizer(text, path);
}

/** The same, of the text of a file; `path` is what an error calls it. */
export function parseTokenizer(text: string, path: string): Tokenizer {
  let json: unknown;
  try {
    json = JSON.parse(text);
  } catch (error) {
    throw invalid(`${path} is not JSON: ${messageOf(error)}`, error);
  }
  const parsed = fileSchema.safeParse(json);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw invalid(`${path}: ${issue.path.join('.') || 'the file'}: ${issue.message}, expected a tokenizer.json`);
  }
  const { decoder, added_tokens: added } = parsed.data;
  const kinds = decoder?.decoders?.map(({ type }) => type) ?? (decoder ? [decoder.type] : []);
  if (kinds.length !== 1 || kinds[0] !== 'ByteLevel') {
    throw invalid(
      `${path}: decoder is ${kinds.join(', ') || 'absent'}, expected ByteLevel, as GPT-NeoX tokenizers have`,
    );
  }
  let library: Library;
  try {
    library = new Library(json as object, {});
    correctWords(library.pre_tokenizer);
  } catch (error) {
    throw invalid(`${path} is no tokenizer: ${messageOf(error)}`, error);
  }
  checkBytes(library, path);
  const special = new Set(added.filter((token) => token.special === true).map(({ id }) => id));
  const digest = createHash('sha256').update(text).digest('hex');
  const tokenizer = new Tokenizer(library, special, digest, text, longestTokenOf(library, parsed.data));
  checkRoundTrip(tokenizer, path);
  return tokenizer;
}

/** Characters of the longest token where the file has steps before the model that may take any number of them away. */
const anyLength = 512;

/**
 * A character has a byte or more in its token. NFC alone makes fewer characters of a text: at most three of two bytes (ǖ is u and two
 * marks), and none of what is ASCII then.
 */
function longestTokenOf(
  library: Library,
  { normalizer, added_tokens: added }: Pick<z.output<typeof fileSchema>, 'normalizer' | 'added_tokens'>,
): number {
  const composes = normalizer?.type === 'NFC';
  const tokens = [...library.get_vocab(true).keys()].map((token) =>
    token === undefined ? nothing : bytesOfToken(token),
  );
  // An added token is written as it is.
  for (const { content } of added) tokens.push(Buffer.from(content));
  let longest = 1;
  for (const bytes of tokens) {
    const beyond = composes ? bytes.reduce((count, byte) => count + (byte < 0x80 ? 0 : 1), 0) : 0;
    longest = Math.max(longest, bytes.length + Math.ceil(beyond / 2));
  }
  const plain = (!normalizer || composes) && added.every(({ lstrip, rstrip }) => lstrip !== true && rstrip !== true);
  return plain ? longest : Math.max(longest, anyLength);
}

/** Bytes that no UTF-8 text has need no token. */
const inText = (byte: number) => byte < 0xc0 || (byte > 0xc1 && byte < 0xf5);

/** A byte without a token could not be written in a prompt, which only the request that has it would tell. */
function checkBytes(library: Library, path: string): void {
  for (const [byte, character] of characterOf.entries()) {
    const id: unknown = library.token_to_id(character);
    if (inText(byte) && !(Number.isInteger(id) && (id as number) >= 0)) {
      throw invalid(
        `${path}: model.vocab: ${JSON.stringify(character)} is ${String(id)}, expected a number for every byte`,
      );
    }
  }
}

/** A model or a pre-tokenizer that is not byte-level gives other tokens than those of the bytes. */
function checkRoundTrip(tokenizer: Tokenizer, path: string): void {
  const text = 'One word, a line\n';
  let came: string;
  try {
    came = tokenizer.decode(tokenizer.encode(text));
  } catch (error) {
    came = messageOf(error);
  }
  if (came.trim() !== text.trim()) {
    const [sent, got] = [text, came.slice(0, 80)].map((each) => JSON.stringify(each));
    throw invalid(`${path}: ${sent} comes back as ${got}, expected a byte-level BPE`);
  }
}
