import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { GenerationStep } from './observer.js';
import { dropping } from './testing/dropping-stages.js';
import { ask, collect, type Generated, never, smallModel, type SmallModel } from './testing/small-engine.js';

let dense: SmallModel;
let small: SmallModel;
before(async () => {
  dense = await smallModel();
  small = await smallModel({ threads: 1 }, dropping);
});
after(async () => {
  await small.close();
  await dense.close();
});

const prompt = 'Of this prompt some tokens are dropped on their way, by a budget.';

async function alone(model: SmallModel, change = {}): Promise<Generated> {
  const engine = await model.engine();
  try {
    return await collect(engine.generate(ask(prompt, change), never));
  } finally {
    await engine.close();
  }
}

test('without a budget nothing is dropped, and the text is the dense model’s', async () => {
  const [whole, none] = [await alone(dense), await alone(small, { budget: 0 })];
  assert.equal(none.text, whole.text);
  assert.deepEqual(none.end.usage.tokensKept, [prompt.length, prompt.length]);
  assert.deepEqual((await alone(small)).end.usage, none.end.usage);
});

test('budgets go together in one batch, each with the text that it has alone, and later groups hold fewer tokens', async () => {
  const budgets = [0, 0.05, 1];
  const engine = await small.engine();
  const together = await Promise.all(
    budgets.map((budget) => collect(engine.generate(ask(prompt, { budget, maxTokens: 20 }), never))),
  );
  for (const [index, budget] of budgets.entries()) {
    const own = await alone(small, { budget, maxTokens: 20 });
    assert.equal(together[index]!.text, own.text);
    assert.deepEqual(together[index]!.end.usage.tokensKept, own.end.usage.tokensKept);
  }
  const kept = together.map(({ end }) => end.usage.tokensKept);
  const [first, second] = kept.at(-1)!;
  assert.ok(
    second! <= first! && second! < prompt.length && second! > 0,
    `kept ${first} and ${second} of ${prompt.length}`,
  );
  await engine.close();
});

test('a prefix is shared among prompts of one budget alone, with as many tokens as each group kept of it', async () => {
  const engine = await small.engine();
  const asked = async (budget: number, rest: string) =>
    collect(engine.generate(ask(`${prompt}${rest}`, { budget, maxTokens: 6 }), never));
  await asked(1, '');
  const [same, other] = [await asked(1, ' And more.'), await asked(0.05, ' And more.')];
  assert.deepEqual(
    [same, other].map(({ end }) => end.usage.cachedTokens),
    [64, 0],
  );
  const fresh = await small.engine();
  const expected = await collect(fresh.generate(ask(`${prompt} And more.`, { budget: 1, maxTokens: 6 }), never));
  assert.equal(same.text, expected.text);
  assert.deepEqual(same.end.usage.tokensKept, expected.end.usage.tokensKept);
  await Promise.all([engine.close(), fresh.close()]);
});

test('a step tells how many of its tokens each stage let on', async () => {
  const steps: GenerationStep[] = [];
  const engine = await small.engine({}, [{ stepped: (step) => void steps.push(step) }]);
  const { end } = await collect(engine.generate(ask(prompt, { budget: 1, maxTokens: 6 }), never));
  const kept = (kind: GenerationStep['kind'], stage: number) =>
    steps.filter((step) => step.kind === kind).reduce((sum, step) => sum + step.kept[stage]!, 0);
  assert.deepEqual([kept('prefill', 0), kept('prefill', 1)], end.usage.tokensKept);
  // The sixth is drawn behind the fifth, and does not run.
  assert.deepEqual([kept('decode', 0), kept('decode', 1)], [5, 5]);
  await engine.close();
});
