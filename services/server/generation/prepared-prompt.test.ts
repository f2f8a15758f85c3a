import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import type { Worker } from 'node:worker_threads';
import { byteTokenizerJson } from '../../../libs/data/text/byte-tokenizer.js';
import { parseTokenizer } from '../../../libs/data/text/tokenizer.js';
import { HeartwoodError } from '../../../libs/errors/error.js';
import type { EncodingReply } from './encoding-thread.js';
import type { GenerationEngine } from './engine.js';
import { ask, collect, never, smallModel, type SmallModel } from './testing/small-engine.js';
import { beginningWith, type Vocabulary, vocabularyOf } from './vocabulary.js';

describe('a long text is encoded beside the event loop', () => {
  let vocabulary: Vocabulary;
  before(() => void (vocabulary = vocabularyOf(parseTokenizer(byteTokenizerJson(), 'tokenizer.json'))));
  after(() => vocabulary.close());
  const long = 'a'.repeat(100_000);

  test('it gives the tokens of the same text in place, and the event loop turns meanwhile', async () => {
    await vocabulary.encodeAside('a'.repeat(1000), never);
    const expected = vocabulary.encode(long);
    const shares: number[] = [];
    // Other processes may hold the loop up in one round; an encoding on the loop would do so in every one.
    for (let round = 0; round < 8 && !shares.some((share) => share < 0.5); round++) {
      let over = false;
      let widest = 0;
      const begun = performance.now();
      let last = begun;
      const encoding = Promise.resolve(vocabulary.encodeAside(long, never)).finally(() => (over = true));
      while (!over) {
        await turn();
        const now = performance.now();
        widest = Math.max(widest, now - last);
        last = now;
      }
      shares.push(widest / (last - begun));
      assert.deepEqual(await encoding, expected);
    }
    assert.ok(Math.min(...shares) < 0.5, `the event loop stood still for ${shares.join(', ')} of the encoding`);
  });

  test('a short one is there at once, while the thread is at a long one', async () => {
    const order: string[] = [];
    const encoding = Promise.resolve(vocabulary.encodeAside(long, never)).then(() => order.push('long'));
    assert.deepEqual(vocabulary.encodeAside('ab', never), [98, 99]);
    order.push('short');
    await encoding;
    assert.deepEqual(order, ['short', 'long']);
    assert.deepEqual(beginningWith(7, vocabulary).encodeAside('', never), [7]);
  });

  test('whoever leaves is told at once, with why, and the next is served', async () => {
    const left = new AbortController();
    const [running, waiting] = [1, 2].map(() => vocabulary.encodeAside(long, left.signal));
    const late = new HeartwoodError('DEADLINE_EXCEEDED', 'late');
    left.abort(late);
    await assert.rejects(Promise.resolve(running), late);
    await assert.rejects(Promise.resolve(waiting), late);
    await assert.rejects(Promise.resolve(vocabulary.encodeAside(long, AbortSignal.abort())), { code: 'CANCELLED' });
    assert.equal((await vocabulary.encodeAside('b'.repeat(600), never)).length, 600);
  });

  test('the thread leaves a text that nobody wants any more, one word or many', async () => {
    const replies: EncodingReply[] = [];
    const watch = (worker: Worker): void => void worker.on('message', (reply: EncodingReply) => replies.push(reply));
    process.on('worker', watch);
    const other = vocabularyOf(parseTokenizer(byteTokenizerJson(), 'tokenizer.json'));
    try {
      for (const text of ['a'.repeat(3_000_000), 'a '.repeat(1_500_000)]) {
        const left = new AbortController();
        const encoding = Promise.resolve(other.encodeAside(text, left.signal));
        // The thread has begun: its tokenizer is open.
        while (!replies.some(({ kind }) => kind === 'done')) await turn();
        left.abort();
        await assert.rejects(encoding, { code: 'CANCELLED' });
        assert.equal((await other.encodeAside('b'.repeat(600), never)).length, 600);
      }
    } finally {
      process.off('worker', watch);
      await other.close();
    }
    const failed = replies.filter((reply) => reply.kind === 'failed');
    assert.deepEqual(
      failed.map(({ code }) => code),
      ['CANCELLED', 'CANCELLED'],
    );
    const encoded = replies.filter((reply) => reply.kind === 'tokens');
    assert.deepEqual(
      encoded.map(({ ids }) => ids.length),
      [600, 600],
    );
  });

  test('closed, it takes no more', async () => {
    const other = vocabularyOf(parseTokenizer(byteTokenizerJson(), 'tokenizer.json'));
    assert.equal((await other.encodeAside('b'.repeat(600), never)).length, 600);
    await other.close();
    await assert.rejects(Promise.resolve(other.encodeAside(long, never)), { code: 'UNAVAILABLE' });
  });
});

describe('a request whose prompt is being encoded', () => {
  let small: SmallModel;
  let engine: GenerationEngine;
  before(async () => {
    small = await smallModel();
    engine = await small.engine({ generationRows: 1, generationQueueLimit: 2 });
  });
  after(async () => {
    await engine.close();
    await small.close();
  });
  const long = ask('a'.repeat(96 * 13), { truncate: true });

  test('comes to the text that it has without', async () => {
    const prepared = await engine.prepare(long, never);
    assert.equal(prepared.prompt.length, 96 * 13);
    const [ahead, inPlace] = [prepared, long].map((request) => collect(engine.generate(request, never)));
    assert.equal((await ahead)!.text, (await inPlace)!.text);
    assert.deepEqual((await engine.prepare(ask([1, 2]), never)).prompt, [1, 2]);
  });

  test('is refused before by field, where its text is longer than any tokens, and where too many wait', async () => {
    const refused = (change: object, message: RegExp) =>
      assert.rejects(engine.prepare({ ...long, ...change }, never), { code: 'INVALID_ARGUMENT', message });
    await refused({ logprobs: 21 }, /logprobs/);
    await refused({ budget: 0.1 }, /budget: 0\.1, expected none/);
    await refused({ truncate: false, prompt: 'a'.repeat(96 * 13 + 1) }, /1249 characters, expected at most 1248/);
    const encoding = [engine.prepare(long, never), engine.prepare(long, never)];
    assert.equal(engine.load.waiting, 2);
    await assert.rejects(engine.prepare(long, never), { code: 'RESOURCE_EXHAUSTED' });
    await Promise.all(encoding);
    assert.equal(engine.load.waiting, 0);
  });

  test('ends when it is cancelled, late, or the engine is closed', async () => {
    const left = new AbortController();
    const cancelled = engine.prepare(long, left.signal);
    left.abort();
    await assert.rejects(cancelled, { code: 'CANCELLED' });
    await assert.rejects(engine.prepare(long, left.signal), { code: 'CANCELLED' });
    await assert.rejects(engine.prepare(long, never, { deadline: performance.now() }), { code: 'DEADLINE_EXCEEDED' });
    const other = await small.engine();
    const unloaded = assert.rejects(other.prepare(long, never), { code: 'UNAVAILABLE' });
    await other.close();
    await unloaded;
    await assert.rejects(other.prepare(long, never), { code: 'UNAVAILABLE' });
    assert.equal(engine.load.waiting, 0);
  });

  test('a text that is cut begins with a whole character', async () => {
    const { prompt } = await engine.prepare(ask(`😀${'a'.repeat(96 * 13 - 1)}`, { truncate: true }), never);
    assert.deepEqual(prompt, small.vocabulary.encode('a'.repeat(96 * 13 - 1)));
  });
});
