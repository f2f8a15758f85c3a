import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { HeartwoodError } from '../../errors/error.js';
import { byteTokenizerJson, byteVocabulary, endOfTextId } from './byte-tokenizer.js';
import { openTokenizer, parseTokenizer } from './tokenizer.js';

interface Reference {
  readonly files: readonly { readonly file: string; readonly tokens: number; readonly sha256: string }[];
  readonly texts: readonly { readonly text: string; readonly ids: readonly number[]; readonly decoded: string }[];
  readonly decoded: readonly { readonly ids: readonly number[]; readonly decoded: string }[];
}

// From the folder of the compiled file, dist/libs/data/text, to the sources and beside the repository.
const fixture = fileURLToPath(new URL('../../../../libs/data/text/fixtures/gpt-neox-20b.json', import.meta.url));
const shared = fileURLToPath(new URL('../../../../../shared', import.meta.url));
const file = join(shared, 'models/gpt-neox-20b-tokenizer/tokenizer.json');
const skip = existsSync(file) ? false : 'no ../shared with the GPT-NeoX tokenizer';

test(
  'tokens of the GPT-NeoX tokenizer are those of the Python tokenizers: odd texts, and half characters',
  { skip },
  async () => {
    const tokenizer = await openTokenizer(file);
    const reference = JSON.parse(await readFile(fixture, 'utf8')) as Reference;
    assert.equal(tokenizer.vocabulary, 50277);
    assert.equal(tokenizer.idOf('<|endoftext|>'), 0);
    assert.ok(reference.texts.length > 50 && reference.decoded.length > 30);
    for (const { text, ids, decoded } of reference.texts) {
      assert.deepEqual(tokenizer.encode(text), ids, JSON.stringify(text));
      assert.equal(tokenizer.decode(ids), decoded);
    }
    for (const { ids, decoded } of reference.decoded) assert.equal(tokenizer.decode(ids), decoded, ids.join());
  },
);

test('a whole file of WikiText-2 gives the tokens of the Python tokenizers, and comes back', { skip }, async () => {
  const tokenizer = await openTokenizer(file);
  const { files } = JSON.parse(await readFile(fixture, 'utf8')) as Reference;
  const { file: name, tokens, sha256 } = files[0]!;
  const text = await readFile(join(shared, 'data/text', name), 'utf8');
  const ids = tokenizer.encode(text);
  assert.equal(ids.length, tokens);
  assert.equal(createHash('sha256').update(Int32Array.from(ids)).digest('hex'), sha256);
  assert.equal(tokenizer.decode(ids), text);
});

test('the longest text of a token, as it may be written', async () => {
  const longest = (change: object) =>
    parseTokenizer(JSON.stringify({ ...(JSON.parse(byteTokenizerJson()) as object), ...change }), 'tokenizer.json')
      .longestToken;
  assert.equal(longest({}), '<|endoftext|>'.length);
  const added = (content: string, change = {}) => ({ added_tokens: [{ id: 257, content, special: false, ...change }] });
  assert.equal(longest(added('é'.repeat(20))), 40);
  assert.equal(longest({ normalizer: { type: 'NFC' }, ...added('é'.repeat(20)) }), 60);
  if (existsSync(file)) assert.equal((await openTokenizer(file)).longestToken, 512);
  // Blanks around one that takes them in are no tokens.
  assert.equal(longest(added('<x>', { rstrip: true, lstrip: true })), 512);
  let most = 0;
  for (let point = 0x80; point <= 0x10ffff; point++) {
    if (point >= 0xd800 && point < 0xe000) continue;
    const character = String.fromCodePoint(point);
    const written = character.normalize('NFD');
    if (written.normalize('NFC') === character) most = Math.max(most, written.length / Buffer.byteLength(character));
  }
  assert.equal(most, 1.5);
});

test('the byte tokenizer gives every byte its token, and the end of a text its own', () => {
  const tokenizer = parseTokenizer(byteTokenizerJson(), 'tokenizer.json');
  assert.equal(tokenizer.vocabulary, byteVocabulary);
  const text = 'A café, 3 × €5:\n\t日本 😀';
  assert.deepEqual(
    tokenizer.encode(text),
    [...new TextEncoder().encode(text)].map((byte) => byte + 1),
  );
  const ended = tokenizer.encode('a<|endoftext|>b');
  assert.deepEqual(ended, [98, endOfTextId, 99]);
  assert.equal(tokenizer.decode(ended), 'ab');
  assert.equal(tokenizer.decode(ended, 'keep'), 'a<|endoftext|>b');
  assert.ok(tokenizer.isSpecial(endOfTextId));
  assert.deepEqual([...tokenizer.bytesOf(0xe2 + 1)], [0xe2]);
  assert.equal(tokenizer.decode([0xe2 + 1, 0x82 + 1]), '\ufffd');
  assert.deepEqual(tokenizer.encode(''), []);
  assert.equal(tokenizer.bytesOf(5000).length, 0);
  assert.throws(() => tokenizer.bytesOf(-1), /token -1: expected an integer from 0 up/);
});

test('what is no byte-level tokenizer.json is refused', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'heartwood-tokenizer-'));
  after(() => rm(folder, { recursive: true, force: true }));
  const whole = JSON.parse(byteTokenizerJson()) as { readonly model: { readonly vocab: Record<string, number> } };
  const { model } = whole;
  const cases: [string, string, RegExp][] = [
    ['{', 'INVALID_ARGUMENT', /is not JSON/],
    ['{"decoder":{"type":"ByteLevel"}}', 'INVALID_ARGUMENT', /model: .* expected a tokenizer\.json/],
    [
      JSON.stringify({ ...whole, decoder: { type: 'Metaspace' } }),
      'INVALID_ARGUMENT',
      /decoder is Metaspace, expected ByteLevel/,
    ],
    [JSON.stringify({ ...whole, decoder: null }), 'INVALID_ARGUMENT', /decoder is absent/],
    [JSON.stringify({ ...whole, model: { type: 'Nothing' } }), 'INVALID_ARGUMENT', /is no tokenizer: /],
    [
      JSON.stringify({ ...whole, model: { ...model, vocab: {} } }),
      'INVALID_ARGUMENT',
      /model\.vocab: "Ā" is undefined/,
    ],
    [
      JSON.stringify({ ...whole, model: { ...model, vocab: { ...model.vocab, z: '123' } } }),
      'INVALID_ARGUMENT',
      /model\.vocab: "z" is 123, expected a number for every byte/,
    ],
    [
      JSON.stringify({ ...whole, pre_tokenizer: null }),
      'INVALID_ARGUMENT',
      /comes back as .*, expected a byte-level BPE/,
    ],
    [
      JSON.stringify({ ...whole, model: { ...model, type: 'WordPiece' } }),
      'INVALID_ARGUMENT',
      /expected a byte-level BPE/,
    ],
  ];
  for (const [text, code, message] of cases) {
    const path = join(folder, 'tokenizer.json');
    await writeFile(path, text);
    await assert.rejects(
      openTokenizer(path),
      (error: HeartwoodError) => error.code === code && message.test(error.message),
    );
  }
  const marked = join(folder, 'marked.json');
  await writeFile(marked, `\ufeff${byteTokenizerJson()}`);
  assert.deepEqual((await openTokenizer(marked)).encode('ab'), [98, 99], 'a byte order mark is no part of the file');
  await assert.rejects(openTokenizer(join(folder, 'none.json')), (error: HeartwoodError) => error.code === 'NOT_FOUND');
});
