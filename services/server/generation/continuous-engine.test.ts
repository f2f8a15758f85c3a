import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import type { GenerationEngine } from './engine.js';
import type { GenerationStep } from './observer.js';
import { argmax } from './sampling/largest.js';
import type { GenerationRequest } from './request.js';
import { ask, collect, type Generated, never, smallModel, type SmallModel } from './testing/small-engine.js';

let small: SmallModel;
before(async () => void (small = await smallModel()));
after(() => small.close());

/** Alone in an engine of its own. */
async function alone(request: GenerationRequest, settings = {}): Promise<Generated> {
  const engine = await small.engine(settings);
  try {
    return await collect(engine.generate(request, never));
  } finally {
    await engine.close();
  }
}

const sampled = { temperature: 1.1, topK: 0, topP: 0.95, repetitionPenalty: 1.1 };
const words = 'It was a bright cold day in April, and the clocks were striking thirteen.';

describe('generated text', () => {
  test('greedy: each token is the likeliest of the canonical graph', async () => {
    const prompt = small.vocabulary.encode(words.slice(0, 21));
    const { ids, end } = await alone(ask(prompt, { maxTokens: 20 }));
    assert.equal(ids.length, 20);
    const logits = await small.logits([...prompt, ...ids]);
    for (const [at, id] of ids.entries()) {
      const row = logits[prompt.length + at - 1]!;
      // Two tokens may be all but equally likely; the graphs agree to the last digits only.
      assert.ok(row[argmax(row)]! - row[id]! < 1e-4, `token ${at}`);
    }
    assert.equal(end.finishReason, 'length');
    assert.deepEqual(end.usage, { promptTokens: 21, cachedTokens: 0, completionTokens: 20, tokensKept: [] });
    assert.ok(end.timing.firstTokenMs >= end.timing.queueMs && end.timing.totalMs >= end.timing.firstTokenMs);
  });

  test('the same seed draws the same text, another another', async () => {
    const drawn = async (seed: number | undefined) =>
      alone(ask('Once upon', { sampling: { ...sampled, seed }, maxTokens: 30 }));
    const [first, again, other, unseeded] = [await drawn(7), await drawn(7), await drawn(8), await drawn(undefined)];
    assert.deepEqual(first.ids, again.ids);
    assert.notDeepEqual(first.ids, other.ids);
    assert.equal(first.end.seed, 7);
    assert.deepEqual((await drawn(unseeded.end.seed)).ids, unseeded.ids);
  });

  test('log-probabilities are those of the canonical graph, the prompt’s too where it is echoed', async () => {
    const prompt = 'A prompt of more than one chunk, which is echoed.';
    const request = ask(prompt, { logprobs: 3, echo: true, maxTokens: 4, sampling: { ...sampled, seed: 1 } });
    const { text, tokens } = await alone(request);
    assert.ok(text.startsWith(prompt));
    const ids = tokens.map(({ id }) => id);
    assert.deepEqual(ids.slice(0, -4), small.vocabulary.encode(prompt));
    assert.equal(tokens[0]!.logprob, undefined);
    const logits = await small.logits(ids);
    for (const [at, { id, logprob, top }] of tokens.entries()) {
      if (at === 0) continue;
      const row = logits[at - 1]!;
      const norm = Math.log(row.reduce((sum, value) => sum + Math.exp(value), 0));
      assert.ok(Math.abs(logprob! - (row[id]! - norm)) < 1e-4);
      assert.equal(top?.length, 3);
      assert.ok(Math.abs(top[0]!.logprob - (Math.max(...row) - norm)) < 1e-4);
    }
  });

  test('stop strings end the text wherever the tokens’ borders are, and are no part of it', async () => {
    const request = ask(words, { sampling: { ...sampled, seed: 3 }, maxTokens: 20 });
    const { text } = await alone(request);
    // Every token is a byte, so a string of several characters lies across as many tokens.
    const at = [...text].findIndex((_, i, all) => i > 2 && all.slice(i, i + 3).join('').length === 3);
    const stop = [...text].slice(at, at + 3).join('');
    const stopped = await alone({ ...request, stop: ['never there', stop] });
    assert.equal(stopped.text, text.slice(0, text.indexOf(stop)));
    assert.equal(stopped.end.finishReason, 'stop');
    assert.equal(stopped.end.stopString, stop);
    assert.equal(stopped.ids.length, stopped.end.usage.completionTokens);
    assert.ok(stopped.end.usage.completionTokens < 20);
  });

  test('only whole characters, and no bytes lost but those of a character that is never finished', async () => {
    const { pieces, ids } = await alone(ask('bytes', { sampling: { ...sampled, seed: 11, topP: 1 }, maxTokens: 80 }));
    for (const piece of pieces) assert.doesNotMatch(piece, /\p{Surrogate}/u);
    const bytes = Buffer.concat(ids.map((id) => small.vocabulary.bytes(id)));
    assert.ok(bytes.some((byte) => byte >= 0x80));
    assert.equal(pieces.join(''), new TextDecoder('utf-8', { ignoreBOM: true }).decode(bytes, { stream: true }));
  });

  test('the end-of-text token ends it unless it is to be ignored', async () => {
    // A penalty below 1 pays for repeating: what was in the prompt comes again.
    const sampling = { temperature: 0, topK: 0, topP: 1, repetitionPenalty: 1e-3 };
    const prompt = [0, 0];
    const ended = await alone({ ...ask(prompt, { sampling }), ignoreEos: false });
    assert.deepEqual([ended.end.finishReason, ended.ids.at(-1), ended.text], ['eos', 0, '']);
    const ignored = await alone(ask(prompt, { sampling }));
    assert.deepEqual([ignored.end.finishReason, ignored.ids.length], ['length', 12]);
    assert.equal(ended.end.usage.completionTokens, 1);
  });
});

describe('what is asked for', () => {
  let engine: GenerationEngine;
  before(async () => void (engine = await small.engine({ generationRows: 1, generationQueueLimit: 2 })));
  after(() => engine.close());
  const refused = (request: GenerationRequest, message: RegExp) =>
    assert.throws(() => engine.generate(request, never), { code: 'INVALID_ARGUMENT', message });

  test('is refused by field, a prompt that is too long with both numbers', () => {
    refused(ask('a'.repeat(90)), /prompt: 90 tokens and 12 tokens of text are 102, .* context of 96/);
    refused(ask('a'.repeat(96), { maxTokens: undefined }), /prompt: 96 tokens and 1 token of text/);
    refused(ask('a', { maxTokens: 96 }), /max_tokens: 96, expected fewer than the context of 96/);
    // 13 is the length of <|endoftext|>.
    refused(ask('a'.repeat(96 * 13 + 1)), /prompt: 1249 characters, expected at most 1248: 96 tokens of 13/);
    refused(ask('a'.repeat(96 * 13)), /prompt: 1248 tokens and 12 tokens of text/);
    refused(ask(''), /prompt: it has no tokens/);
    refused(ask([257]), /prompt: token 257, expected whole numbers from 0 to 256/);
    refused(ask([1.5]), /prompt: token 1\.5/);
    refused(
      ask('a', { sampling: { ...sampled, temperature: -1 } }),
      /^temperature: -1, expected a number from 0 to 100$/,
    );
    refused(ask('a', { sampling: { ...sampled, topP: 0 } }), /^top_p: 0, expected a number above 0 and at most 1$/);
    refused(
      ask('a', { sampling: { ...sampled, repetitionPenalty: 1e-300 } }),
      /^repetition_penalty: 1e-300, expected a number from 0\.001 to 100$/,
    );
    refused(ask('a', { sampling: { ...sampled, seed: 0.5 } }), /^seed: 0\.5, expected a whole number/);
    refused(ask('a', { stop: [''] }), /^stop\[0\]: expected a text of 1/);
    refused(ask('a', { stop: ['\ud800'] }), /^stop\[0\]: expected whole characters/);
    refused(ask('a', { logprobs: 21 }), /logprobs/);
    refused(ask('a', { budget: 0.1 }), /budget: 0\.1, expected none/);
    assert.deepEqual([engine.load.running, engine.load.waiting], [0, 0]);
  });

  test('a prompt that is too long loses its beginning where that is asked for', async () => {
    const long = `${'x'.repeat(100)}${words.slice(0, 60)}`;
    const cut = await collect(engine.generate(ask(long, { truncate: true, echo: true }), never));
    assert.equal(cut.end.usage.promptTokens, 84);
    const kept = long.slice(-84);
    assert.ok(cut.text.startsWith(kept));
    assert.equal(cut.text, (await alone(ask(kept, { echo: true }))).text);
  });

  test('waits for a row, and is refused where too many wait', async () => {
    const streams = [1, 2, 3].map((seed) => engine.generate(ask('abc', { sampling: { ...sampled, seed } }), never));
    assert.deepEqual([engine.load.running, engine.load.waiting], [1, 2]);
    assert.throws(() => engine.generate(ask('abc'), never), {
      code: 'RESOURCE_EXHAUSTED',
      message: /the queue is full: 2 requests wait for a row/,
    });
    const texts = await Promise.all(streams.map(collect));
    assert.equal(new Set(texts.map(({ text }) => text)).size, 3);
    assert.deepEqual([engine.load.running, engine.load.waiting, engine.load.cachedTokens], [0, 0, 0]);
  });

  test('the most urgent of those that wait goes first', async () => {
    const order: string[] = [];
    const run = async (name: string, priority: number) => {
      await collect(engine.generate(ask('abc', { maxTokens: 2 }), never, { priority }));
      order.push(name);
    };
    await Promise.all([run('first', 5), run('late', 9), run('urgent', 1)]);
    assert.deepEqual(order, ['first', 'urgent', 'late']);
  });
});

describe('the batch', () => {
  test('memory is bounded: fewer rows where the bytes do not suffice, and none is refused', async () => {
    const rowBytes = (3 + 1 + 2) * 16 * 96 * 4 * 2;
    const engine = await small.engine({ generationCacheBytes: 5 * rowBytes + 1 });
    assert.deepEqual([engine.load.rows, engine.load.cacheBytes, engine.load.cacheTokens], [5, 5 * rowBytes, 480]);
    await engine.close();
    await assert.rejects(small.engine({ generationCacheBytes: rowBytes - 1 }), { code: 'FAILED_PRECONDITION' });
    const short = await small.engine({ generationContext: 32 });
    assert.equal(short.context, 32);
    assert.throws(() => short.generate(ask('a'.repeat(30)), never), { message: /context of 32/ });
    await short.close();
  });

  test('a long prompt is prefilled chunk by chunk between the steps of those that decode', async () => {
    const steps: GenerationStep[] = [];
    const engine = await small.engine({}, [{ stepped: (step) => void steps.push(step) }]);
    const running = engine.generate(ask('abc', { maxTokens: 40 }), never)[Symbol.asyncIterator]();
    await running.next();
    steps.length = 0;
    await collect(engine.generate(ask(words, { maxTokens: 1 }), never));
    const kinds = steps.map(({ kind }) => kind);
    const from = kinds.indexOf('prefill');
    const chunks = Math.ceil(words.length / 8);
    const expected = Array.from({ length: 2 * chunks - 1 }, (_, i) => (i % 2 === 0 ? 'prefill' : 'decode'));
    assert.deepEqual(kinds.slice(from, from + 2 * chunks - 1), expected);
    assert.ok(
      steps.every(({ kind, tokens, rows }) => (kind === 'prefill' ? rows === 1 && tokens <= 8 : tokens === rows)),
    );
    await engine.close();
  });

  test('a shared beginning is computed once, in whole chunks, and changes no text', async () => {
    const engine = await small.engine({ generationRows: 4 });
    const shared = words.slice(0, 35);
    const generate = (rest: string, change = {}) => collect(engine.generate(ask(shared + rest, change), never));
    const first = await generate(' one');
    const again = await generate(' one');
    const other = await generate(' two');
    // 39 tokens: the last of which is always computed, and so is what behind the last whole chunk.
    assert.deepEqual(
      [first, again, other].map(({ end }) => end.usage.cachedTokens),
      [0, 32, 32],
    );
    assert.equal(again.text, first.text);
    assert.equal(other.text, (await alone(ask(`${shared} two`))).text);
    // Also from a row that somebody is in.
    const running = engine.generate(ask(shared, { maxTokens: 40, sampling: { ...sampled, seed: 2 } }), never);
    const besides = await generate(' three');
    assert.equal(besides.end.usage.cachedTokens, 32);
    assert.equal(besides.text, (await alone(ask(`${shared} three`))).text);
    assert.equal(
      (await collect(running)).text,
      (await alone(ask(shared, { maxTokens: 40, sampling: { ...sampled, seed: 2 } }))).text,
    );
    const exact = await collect(engine.generate(ask(words.slice(0, 32)), never));
    assert.equal(exact.end.usage.cachedTokens, 24);
    await engine.close();
  });

  test('whoever joins, leaves or is cancelled, each text is that of the request alone', async () => {
    const prompts = [
      words,
      words.slice(0, 20),
      `${words.slice(0, 20)}!`,
      'a',
      'Zwölf Boxkämpfer jagen Viktor',
      words.slice(3),
    ];
    const request = fc.record({
      prompt: fc.constantFrom(...prompts),
      seed: fc.option(fc.nat(3), { nil: undefined }),
      maxTokens: fc.integer({ min: 1, max: 20 }),
      logprobs: fc.constantFrom(undefined, undefined, undefined, 2),
      stop: fc.constantFrom<string[]>([], ['e'], ['\n\n', 'q']),
      /** Events that are read before the reader leaves; undefined: all. */
      leaves: fc.option(fc.nat(6), { nil: undefined }),
      /** Events of the request before it that it waits for. */
      delay: fc.nat(4),
    });
    const known = new Map<string, Promise<Generated>>();
    await fc.assert(
      fc.asyncProperty(
        fc.array(request, { minLength: 2, maxLength: 9 }),
        fc.integer({ min: 1, max: 5 }),
        async (all, rows) => {
          const engine = await small.engine({ generationRows: rows });
          const checks = all.map(async ({ leaves, delay, seed, ...rest }) => {
            const asked = ask(rest.prompt, {
              ...rest,
              sampling: seed === undefined ? ask('').sampling : { ...sampled, seed },
            });
            for (let i = 0; i < delay; i++) await new Promise((resolve) => setImmediate(resolve));
            const key = JSON.stringify(asked);
            const expected = known.get(key) ?? alone(asked);
            known.set(key, expected);
            const stream = engine.generate(asked, never);
            if (leaves === undefined) {
              const { text, ids, end } = await collect(stream);
              const own = await expected;
              assert.deepEqual([text, ids, end.finishReason], [own.text, own.ids, own.end.finishReason]);
              return;
            }
            let read = '';
            let events = 0;
            for await (const event of stream) {
              if (event.kind === 'text') read += event.text;
              if (++events > leaves) break;
            }
            assert.ok((await expected).text.startsWith(read));
          });
          await Promise.all(checks);
          // Whoever has left is out by the next step.
          await collect(engine.generate(ask('a', { maxTokens: 1 }), never));
          assert.deepEqual([engine.load.running, engine.load.waiting], [0, 0]);
          await engine.close();
        },
      ),
      { numRuns: 25 },
    );
  });
});

describe('an end before the end', () => {
  test('a signal frees the row within one token, whether the request decodes, is prefilled or waits', async () => {
    const engine = await small.engine({ generationRows: 2 });
    const controllers = [0, 1, 2].map(() => new AbortController());
    const streams = controllers.map(({ signal }, i) =>
      engine.generate(ask(words, { maxTokens: 20, sampling: { ...sampled, seed: i } }), signal),
    );
    const [decoding] = streams.map((stream) => stream[Symbol.asyncIterator]());
    await decoding!.next();
    for (const controller of controllers) controller.abort();
    assert.throws(() => engine.generate(ask('a'), controllers[0]!.signal), { code: 'CANCELLED' });
    const next = collect(engine.generate(ask(words, { maxTokens: 3 }), never));
    await assert.rejects(
      async () => {
        for (;;) if ((await decoding!.next()).done) break;
      },
      { code: 'CANCELLED' },
    );
    for (const stream of streams.slice(1)) await assert.rejects(collect(stream), { code: 'CANCELLED' });
    assert.equal((await next).text, (await alone(ask(words, { maxTokens: 3 }))).text);
    assert.equal(engine.load.running, 0);
    await engine.close();
  });

  test('a deadline ends it where it is, also one that has passed', async () => {
    const engine = await small.engine({ generationRows: 1 });
    const running = engine.generate(ask('a', { maxTokens: 90 }), never);
    const late = engine.generate(ask('b'), never, { deadline: performance.now() - 1 });
    await assert.rejects(collect(late), { code: 'DEADLINE_EXCEEDED' });
    assert.equal((await collect(running)).ids.length, 90);
    const cut = engine.generate(ask('a', { maxTokens: 95 }), never, { deadline: performance.now() + 1 });
    await assert.rejects(collect(cut), { code: 'DEADLINE_EXCEEDED' });
    await collect(engine.generate(ask('a'), never));
    await engine.close();
  });

  test('a reader that does not read gets everything in the end, in fewer pieces', async () => {
    const engine = await small.engine();
    const slow = engine.generate(ask(words, { maxTokens: 20 }), never);
    await collect(engine.generate(ask(words, { maxTokens: 21 }), never));
    const { ids, pieces, text } = await collect(slow);
    assert.equal(ids.length, 20);
    assert.equal(pieces.length, 1);
    assert.equal(text, (await alone(ask(words, { maxTokens: 20 }))).text);
    await engine.close();
  });

  test('closing ends what is under way, and frees the cache', async () => {
    const engine = await small.engine({ generationRows: 1 });
    const streams = [0, 1].map(() => engine.generate(ask('a', { maxTokens: 90 }), never));
    const closed = engine.close();
    for (const stream of streams) await assert.rejects(collect(stream), { code: 'UNAVAILABLE', message: /unloaded/ });
    await closed;
    assert.throws(() => engine.generate(ask('a'), never), { code: 'UNAVAILABLE' });
  });
});
