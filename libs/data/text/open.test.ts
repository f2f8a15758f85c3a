import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { HeartwoodError } from '../../errors/error.js';
import { writeSafetensors } from '../../models/safetensors.js';
import { brownDocuments, brownFiles, brownSplit } from './brown.js';
import { plainText } from './brown-text.js';
import { byteTokenizerJson, byteVocabulary } from './byte-tokenizer.js';
import { readTokens } from './dataset.js';
import { documentsOf } from './documents.js';
import { openText } from './open.js';
import { splitDocuments } from './split.js';
import { parseTokenizer } from './tokenizer.js';

const folder = await mkdtemp(join(tmpdir(), 'heartwood-text-'));
after(() => rm(folder, { recursive: true, force: true }));
const tokenizer = parseTokenizer(byteTokenizerJson(), 'tokenizer.json');
const positions = 8;

async function refused(promise: Promise<unknown>, code: string, message: RegExp): Promise<void> {
  await assert.rejects(promise, (error: HeartwoodError) => error.code === code && message.test(error.message));
}

test('the Brown corpus is whole, and its splits share no document', async () => {
  assert.equal(brownFiles.length, 500);
  const parts = [brownSplit('train'), brownSplit('validation'), brownSplit('test')];
  assert.deepEqual(
    parts.map(({ length }) => length),
    [350, 100, 50],
  );
  assert.deepEqual(parts.flat().sort(), [...brownFiles].sort());
  const documents = await brownDocuments('test');
  assert.deepEqual(
    documents.map(({ name }) => name),
    brownSplit('test'),
  );
  for (const { name, text } of documents) {
    // 2,000 words each, in running text: no tag, no quote of the tagged form, no mark that stands alone.
    assert.ok(text.length > 8_000 && text.length < 16_000, `${name}: ${text.length}`);
    assert.doesNotMatch(text, /\/(nn|at|vb)\b|``|''| [.,;?!]/, name);
  }
});

test('tagged text becomes plain text', () => {
  const tagged = [
    "\tThe/at jury/nn said/vbd ``/`` no/at ''/'' (/( that/cs is/bez )/) ,/, and/or/cc went/vbd ./.",
    'Who/wps ?/. ?/.',
    '',
    '',
    "\tA/at 1/4''/nn ''/'' rod/nn ,/, the/at '/' pro/jj '/' letters/nns --/-- $5/nns ./.",
  ].join('\n');
  assert.equal(
    plainText(tagged),
    'The jury said "no" (that is), and/or went. Who?\n\nA 1/4" rod, the \'pro\' letters -- $5.',
  );
});

test('documents are told apart by <|endoftext|>, by titles, by gaps, or not at all', () => {
  const texts = (text: string) => documentsOf(text, 'f').map((document) => document.text.trim());
  assert.deepEqual(texts('one\n\n\ntwo<|endoftext|>\nthree<|endoftext|> '), ['one\n\n\ntwo', 'three']);
  assert.deepEqual(texts(' \n = A = \n\n x \n\n = = B = = \n y \n = C d = \n z'), [
    '= A = \n\n x \n\n = = B = = \n y',
    '= C d = \n z',
  ]);
  assert.deepEqual(
    documentsOf(' = A = \n x', 'f').map(({ name }) => name),
    ['f: A'],
  );
  assert.deepEqual(texts('a\n\nb\r\n\r\n\r\nc'), ['a\n\nb', 'c']);
  assert.deepEqual(documentsOf('a\n\nb', 'f'), [{ name: 'f', text: 'a\n\nb' }]);
  assert.deepEqual(documentsOf(' \n\n\n ', 'f'), []);
});

const wikitext = fileURLToPath(new URL('../../../../../shared/data/text/wikitext2-valid.txt', import.meta.url));
test(
  'WikiText-2 has the articles of its titles',
  { skip: existsSync(wikitext) ? false : 'no ../shared with text' },
  async () => {
    const { documents } = await openText(wikitext, tokenizer, { positions: 256 });
    assert.equal(documents.length, 60);
    assert.match(documents[0]!.name, /^wikitext2-valid\.txt: Homarus gammarus$/);
  },
);

test('windows are of one document each, and know which', async () => {
  const path = join(folder, 'three.txt');
  await writeFile(path, 'abcdefghijklmnopqrst<|endoftext|>short<|endoftext|>ABCDEFGHIJ');
  const data = await openText(path, tokenizer, { positions });
  assert.deepEqual([data.size, data.positions, data.documents.length], [3, 8, 3]);
  const samples = await Promise.all([0, 1, 2].map((index) => data.read(index)));
  assert.deepEqual(
    samples.map(({ ids }) => tokenizer.decode(ids)),
    ['abcdefgh', 'ijklmnop', 'ABCDEFGH'],
  );
  assert.deepEqual(
    samples.map(({ document }) => document),
    [0, 0, 2],
  );
  assert.deepEqual(
    [0, 1, 2].map((index) => data.documentOf(index)),
    [0, 0, 2],
  );
  const { ids, documents } = await readTokens(data, [2, 0]);
  assert.deepEqual([...ids], [...samples[2]!.ids, ...samples[0]!.ids].map(BigInt));
  assert.deepEqual([...documents], [2, 0]);
  const again = await openText(path, tokenizer, { positions });
  const other = await openText(path, tokenizer, { positions: 4 });
  assert.equal(again.digest, data.digest);
  assert.notEqual(other.digest, data.digest);
  assert.throws(() => data.documentOf(3), /samples 0 to 2, not 3/);
});

test('a folder of .txt files is a document each', async () => {
  const path = join(folder, 'texts');
  await mkdir(path);
  await Promise.all([
    writeFile(join(path, 'b.txt'), 'the second\n\n\n\none'),
    writeFile(join(path, 'a.txt'), 'the first one'),
    writeFile(join(path, 'c.txt'), ' \n'),
    writeFile(join(path, 'notes.md'), 'not this'),
  ]);
  const { documents } = await openText(path, tokenizer, { positions });
  assert.deepEqual(
    documents.map(({ name }) => name),
    ['a.txt', 'b.txt'],
  );
});

test('input_ids of a .safetensors file are taken as they are', async () => {
  const path = join(folder, 'ids.safetensors');
  const ids = { name: 'input_ids', type: 'int64' as const, shape: [3, 4] };
  const bytes = (values: readonly number[]) => new Uint8Array(BigInt64Array.from(values.map(BigInt)).buffer);
  const numbers = Array.from({ length: 12 }, (_, at) => at + 100);
  await writeSafetensors(path, [{ ...ids, bytes: bytes(numbers) }]);
  const alone = await openText(path, tokenizer, { positions });
  assert.deepEqual([alone.size, alone.positions, alone.documents.length], [3, 4, 3]);
  assert.deepEqual([...(await alone.read(1)).ids], [104, 105, 106, 107]);

  const documents = { name: 'documents', type: 'int64' as const, shape: [3], bytes: bytes([7, 9, 7]) };
  await writeSafetensors(path, [{ ...ids, bytes: bytes(numbers) }, documents]);
  const grouped = await openText(path, tokenizer, { positions });
  assert.deepEqual(
    [0, 1, 2].map((index) => grouped.documentOf(index)),
    [0, 1, 0],
  );
  assert.deepEqual([...grouped.documents[0]!.ids], [100, 101, 102, 103, 108, 109, 110, 111]);

  await writeSafetensors(path, [{ ...ids, bytes: bytes([...numbers.slice(0, 11), 2 ** 32]) }]);
  await refused(
    openText(path, tokenizer, { positions }),
    'INVALID_ARGUMENT',
    /input_ids of row 2 holds 4294967296 at position 3, expected 0 to 256/,
  );
  await writeSafetensors(path, [{ ...ids, shape: [12], bytes: bytes(numbers) }]);
  await refused(openText(path, tokenizer, { positions }), 'INVALID_ARGUMENT', /input_ids is \[12\], expected \[N, T\]/);
});

test('what is no text is refused in words', async () => {
  const path = join(folder, 'odd');
  await mkdir(path);
  await refused(openText(join(folder, 'nowhere'), tokenizer, { positions }), 'NOT_FOUND', /cannot be opened/);
  await refused(openText(path, tokenizer, { positions }), 'INVALID_ARGUMENT', /has no \.txt file/);
  await refused(openText('demo:digits', tokenizer, { positions }), 'INVALID_ARGUMENT', /holds images, where text/);
  await refused(openText('demo:poems', tokenizer, { positions }), 'NOT_FOUND', /expected demo:digits or demo:brown/);
  const file = join(path, 'x.txt');
  await writeFile(file, 'tiny');
  await refused(
    openText(file, tokenizer, { positions }),
    'INVALID_ARGUMENT',
    /longest document has 4 tokens, .* 8 or more/,
  );
  await writeFile(file, Uint8Array.of(0xff, 0xfe, 0x41));
  await refused(openText(file, tokenizer, { positions }), 'INVALID_ARGUMENT', /expected UTF-8/);
  await writeFile(file, 'long enough for it');
  await refused(
    openText(file, tokenizer, { positions, vocabulary: 50 }),
    'INVALID_ARGUMENT',
    /token 109, where the model has 50: expected its own tokenizer/,
  );
});

test('parts of a calibration share no document, and spread over theirs', async () => {
  const data = await openText('demo:brown', tokenizer, { positions: 256, vocabulary: byteVocabulary });
  assert.equal(data.name, 'demo:brown/validation');
  const fractions = { fit: 0.5, search: 0.25, certify: 0.25 };
  const documents = (part: readonly number[]) => new Set(part.map((index) => data.documentOf(index)));
  const whole = splitDocuments(data, 3, fractions);
  assert.equal(whole.fit.length + whole.search.length + whole.certify.length, data.size);
  assert.equal(new Set([...whole.fit, ...whole.search, ...whole.certify]).size, data.size);
  const counts = [whole.fit, whole.search, whole.certify].map((part) => documents(part).size);
  assert.deepEqual(counts, [50, 25, 25]);
  assert.equal(documents([...whole.fit, ...whole.search, ...whole.certify]).size, 100);

  const some = splitDocuments(data, 3, fractions, 120);
  assert.deepEqual([some.fit.length, some.search.length, some.certify.length], [60, 30, 30]);
  assert.deepEqual([documents(some.fit).size, documents(some.search).size, documents(some.certify).size], [50, 25, 25]);
  assert.deepEqual(splitDocuments(data, 3, fractions, 120), some);
  assert.notDeepEqual(splitDocuments(data, 4, fractions, 120), some);

  const two = join(folder, 'two.txt');
  await writeFile(two, 'one document<|endoftext|>and another');
  const few = await openText(two, tokenizer, { positions });
  assert.throws(() => splitDocuments(few, 0, fractions), /2 documents are as long as a window.*too few to split/);
});
