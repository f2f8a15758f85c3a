import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setImmediate as immediate } from 'node:timers/promises';
import { z } from 'zod';
import { HeartwoodError } from '../../../libs/errors/error.js';
import type { Session } from '../../../libs/runtime/runtime.js';
import { openEngine } from './continuous-engine.js';
import type { GenerationEngine } from './engine.js';
import type { GenerationStep } from './observer.js';
import type { GenerationRequest } from './request.js';
import { generationSchema } from './settings.js';
import { ask, collect, type Generated, never, smallModel, type SmallModel } from './testing/small-engine.js';

let small: SmallModel;
before(async () => void (small = await smallModel()));
after(() => small.close());

const sampling = (seed: number) => ({ temperature: 1.1, topK: 0, topP: 0.95, repetitionPenalty: 1.1, seed });
const words = 'It was a bright cold day in April, and t';

async function alone(request: GenerationRequest): Promise<Generated> {
  const engine = await small.engine();
  try {
    return await collect(engine.generate(request, never));
  } finally {
    await engine.close();
  }
}

/** An engine that tells every token at once, and what it runs. */
async function watched(
  rows: number,
  session = small.session,
): Promise<{ engine: GenerationEngine; steps: GenerationStep[] }> {
  const steps: GenerationStep[] = [];
  const settings = { prefillChunk: 8, generationRows: rows, streamIntervalMs: 0 };
  const engine = await openEngine({
    ...{ session, model: small.model, vocabulary: small.vocabulary },
    settings: z.object(generationSchema).parse(settings),
    observers: [{ stepped: (step) => void steps.push(step) }],
  });
  return { engine, steps };
}

const decodes = (steps: readonly GenerationStep[]) => steps.filter(({ kind }) => kind === 'decode');
const wastedOf = (steps: readonly GenerationStep[]) => steps.reduce((sum, { wasted }) => sum + wasted, 0);

/** Three tokens of a text that its stop string is; the text is cut before them. */
async function stopping(request: GenerationRequest): Promise<{ stopped: GenerationRequest; expected: Generated }> {
  const { text } = await alone(request);
  const characters = [...text];
  const stopped = { ...request, stop: [characters.slice(3, 6).join('')] };
  const expected = await alone(stopped);
  assert.equal(expected.end.finishReason, 'stop');
  return { stopped, expected };
}

test('a length that is reached wastes nothing', async () => {
  const { engine, steps } = await watched(2);
  const asked = [5, 9, 14].map((maxTokens) => ask(words, { maxTokens, sampling: sampling(maxTokens) }));
  const texts = await Promise.all(asked.map((request) => collect(engine.generate(request, never))));
  for (const [index, { text }] of texts.entries()) assert.equal(text, (await alone(asked[index]!)).text);
  assert.equal(wastedOf(steps), 0);
  // The first token of each is the prompt's run's.
  assert.equal(
    decodes(steps).reduce((sum, { tokens }) => sum + tokens, 0),
    5 + 9 + 14 - 3,
  );
  await engine.close();
});

test('a stop string leaves one token in the run that was asked for ahead, and nobody else notices', async () => {
  const { stopped, expected } = await stopping(ask(words, { maxTokens: 30, sampling: sampling(3) }));
  const beside = ask('beside it', { maxTokens: 40, sampling: sampling(4) });
  const { engine, steps } = await watched(3);
  const [own, other] = await Promise.all([stopped, beside].map((request) => collect(engine.generate(request, never))));
  assert.deepEqual([own!.text, own!.end.usage.completionTokens], [expected.text, expected.end.usage.completionTokens]);
  assert.equal(other!.text, (await alone(beside)).text);
  assert.equal(wastedOf(steps), 1);
  for (const { rows, tokens, wasted, execution } of decodes(steps))
    assert.deepEqual([tokens, execution.samples], [rows + wasted, tokens]);
  const drawn = own!.end.usage.completionTokens + other!.end.usage.completionTokens;
  assert.equal(
    decodes(steps).reduce((sum, { rows }) => sum + rows, 0),
    drawn - 2,
  );
  assert.equal(engine.load.running, 0);
  await engine.close();
});

test('the end-of-text token too', async () => {
  const asked = ask(words, { maxTokens: 30, sampling: sampling(7) });
  const { ids } = await alone(asked);
  const at = ids.findIndex((id, index) => index > 2 && ids.indexOf(id) === index);
  const beside = ask('beside it', { maxTokens: 40, sampling: sampling(4) });
  const steps: GenerationStep[] = [];
  const engine = await openEngine({
    ...{ session: small.session, vocabulary: small.vocabulary, model: { ...small.model, eosIds: [ids[at]!] } },
    settings: z.object(generationSchema).parse({ prefillChunk: 8 }),
    observers: [{ stepped: (step) => void steps.push(step) }],
  });
  const [{ end, ids: drawn }, other] = await Promise.all([
    collect(engine.generate({ ...asked, ignoreEos: false }, never)),
    collect(engine.generate(beside, never)),
  ]);
  assert.deepEqual([end.finishReason, drawn], ['eos', ids.slice(0, at + 1)]);
  assert.equal(other.text, (await alone(beside)).text);
  assert.equal(wastedOf(steps), 1);
  await engine.close();
});

test('the row of a text that a stop string ended serves later prompts by what is valid of it alone', async () => {
  const { stopped } = await stopping(ask(words, { maxTokens: 30, sampling: sampling(5) }));
  const { engine, steps } = await watched(1);
  for (const rest of [' one', ' two, which is longer than what was drawn']) {
    await collect(engine.generate(stopped, never));
    const request = ask(words + rest, { maxTokens: 10, sampling: sampling(6) });
    const { text, end } = await collect(engine.generate(request, never));
    assert.equal(end.usage.cachedTokens, 40);
    assert.equal(text, (await alone(request)).text);
  }
  assert.ok(wastedOf(steps) >= 2);
  await engine.close();
});

/** Runs that were asked for ahead are made at once, and begin when the one before them has been answered and its tokens have been read. */
function holding(session: Session): Session {
  let before: Promise<unknown> = Promise.resolve();
  const runLate: Session['runLate'] = async (make, turn = {}) => {
    if (turn.ahead !== true) return (before = session.runLate(make, turn));
    const made = make();
    const run = before.then(async () => {
      await immediate();
      if (turn.signal?.aborted === true) throw new HeartwoodError('CANCELLED', 'taken back');
      return session.runLate(() => made, { ...turn, ahead: false });
    });
    before = run.catch(() => undefined);
    return run;
  };
  return {
    ...{ inputs: session.inputs, outputs: session.outputs, instances: 1, provider: session.provider, runLate },
    ...{ broken: session.broken, run: session.run, runTimed: session.runTimed, check: session.check },
    ...{ allocate: session.allocate, dispose: session.dispose },
  };
}

for (const held of [false, true]) {
  const when = held ? 'before the run that was asked for ahead has begun' : 'at any time';
  test(`who is cancelled ${when} leaves the rows of the others where they were`, async () => {
    const requests = [0, 1, 2].map((seed) => ask(`text ${seed}`, { maxTokens: 20, sampling: sampling(seed) }));
    for (const [which] of requests.entries()) {
      const { engine, steps } = await watched(3, held ? holding(small.session) : small.session);
      const controller = new AbortController();
      let told = Infinity;
      const texts = requests.map(async (request, index) => {
        if (index !== which) return collect(engine.generate(request, never));
        let events = 0;
        await assert.rejects(
          async () => {
            for await (const event of engine.generate(request, controller.signal)) {
              assert.equal(event.kind, 'text');
              if (++events !== 4) continue;
              told = steps.length;
              controller.abort();
            }
          },
          { code: 'CANCELLED' },
        );
        return undefined;
      });
      for (const [index, done] of (await Promise.all(texts)).entries())
        if (done) assert.equal(done.text, (await alone(requests[index]!)).text);
      const with3 = steps.slice(told).filter(({ kind, tokens }) => kind === 'decode' && tokens === 3);
      // The one that is under way; where a run is over before the token of the last is read, also the one that was asked for ahead of that.
      assert.ok(with3.length <= (held ? 1 : 2), `${with3.length} runs with it after it was cancelled`);
      if (held) assert.equal(wastedOf(steps), 0);
      assert.equal(engine.load.running, 0);
      await engine.close();
    }
  });
}

test('a prompt that comes while a run is ahead is begun behind that one, and each text is its own', async () => {
  const running = ask(words, { maxTokens: 40, sampling: sampling(1) });
  const joins = [ask(words.slice(0, 30), { maxTokens: 6 }), ask('another', { maxTokens: 9, sampling: sampling(2) })];
  const { engine, steps } = await watched(3);
  const joined: Promise<Generated>[] = [];
  let events = 0;
  let text = '';
  for await (const event of engine.generate(running, never)) {
    if (event.kind !== 'text') continue;
    text += event.text;
    const request = ++events % 4 === 0 ? joins[joined.length] : undefined;
    if (request === undefined) continue;
    const told = steps.length;
    joined.push(collect(engine.generate(request, never)));
    await joined.at(-1)!;
    const behind = steps.slice(told).findIndex(({ kind }) => kind === 'prefill');
    assert.ok(behind <= 2, `${behind} runs before its prompt's`);
  }
  assert.equal(text, (await alone(running)).text);
  for (const [index, done] of (await Promise.all(joined)).entries())
    assert.equal(done.text, (await alone(joins[index]!)).text);
  assert.equal(joined.length, 2);
  await engine.close();
});
