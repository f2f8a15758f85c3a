import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { logSoftmax } from '../../../libs/pruning/measure/divergence.js';
import { argmax } from './sampling/largest.js';
import { TeacherForcing } from './teacher-forcing.js';
import { dropping } from './testing/dropping-stages.js';
import { ask, collect, never, smallModel, type SmallModel } from './testing/small-engine.js';

let dense: SmallModel;
let staged: SmallModel;
before(async () => {
  dense = await smallModel();
  staged = await smallModel({ threads: 1 }, dropping);
});
after(async () => {
  await staged.close();
  await dense.close();
});

const prompt = 'Of this prompt some tokens are dropped.';

async function rowsOf({ session, model, vocabulary }: SmallModel, answer: readonly number[], budget?: number) {
  const ids = vocabulary.encode(prompt);
  const rows: Float32Array[] = [];
  const forcing = new TeacherForcing(session, model, 8);
  for await (const some of forcing.logits({ prompt: ids, answer, budget }, never))
    rows.push(...some.map((row) => row.slice()));
  return rows;
}

for (const [name, budget] of [
  ['with nothing dropped', undefined],
  ['of a prompt that lost tokens to its budget', 1],
] as const) {
  test(`a text is judged by the logits that it was drawn from, ${name}`, async () => {
    const small = budget === undefined ? dense : staged;
    const engine = await small.engine();
    const change = { maxTokens: 40, logprobs: 3, budget };
    const { tokens, ids, end } = await collect(engine.generate(ask(prompt, change), never));
    assert.equal(end.usage.tokensKept.at(-1)! < prompt.length, budget !== undefined);
    const rows = await rowsOf(small, ids, budget);
    assert.equal(rows.length, 40);
    for (const [at, row] of rows.entries()) {
      const logs = logSoftmax(row, 0, row.length);
      assert.equal(argmax(row), ids[at]);
      for (const { id, logprob } of tokens[at]!.top!) assert.ok(Math.abs(logs[id]! - logprob) < 1e-4);
    }
    assert.deepEqual(engine.load.running, 0);
    await engine.close();
  });
}

test('a text that is generated meanwhile is the same', async () => {
  const engine = await dense.engine();
  const request = ask('Another text', { maxTokens: 30 });
  const alone = await collect(engine.generate(request, never));
  const [beside] = await Promise.all([
    collect(engine.generate(request, never)),
    rowsOf(dense, new Array<number>(50).fill(65)),
  ]);
  assert.deepEqual(beside.ids, alone.ids);
  await engine.close();
});

test('who reads no further, or has gone, leaves nothing behind', async () => {
  const forcing = new TeacherForcing(dense.session, dense.model, 8);
  const text = { prompt: [1, 2, 3], answer: new Array<number>(40).fill(65) };
  let runs = 0;
  for await (const rows of forcing.logits(text, never, (run) => (runs++, run()))) {
    assert.equal(rows.length, 1);
    break;
  }
  assert.equal(runs, 1);
  const gone = AbortSignal.abort();
  await assert.rejects(forcing.logits(text, gone).next(), { code: 'CANCELLED' });
});
