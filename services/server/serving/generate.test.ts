import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { Status } from 'nice-grpc';
import {
  type DeepPartial,
  FinishReason,
  type GenerateRequest,
} from '../../../proto/gen/heartwood/serving/v1/serving.js';
import { refused, until } from '../testing/live-server.js';
import { textContext, type TextServer, textServer } from '../testing/text-server.js';

let live: TextServer;
before(async () => {
  live = await textServer();
});
after(() => live.stop());

const usual = { text: 'Once upon a time', maxTokens: 24, ignoreEos: true } satisfies DeepPartial<GenerateRequest>;
const bytesOf = (text: string) => [...Buffer.from(text)].map((byte) => byte + 1);
const running = '{model="lm",version="2"}';

test('a text comes in pieces, then its end, of the version that was asked for', async () => {
  const { text, ids, pieces, end } = await live.generate(usual);
  assert.ok(pieces.length > 1, 'more than one piece');
  assert.equal(ids.length, 24);
  assert.deepEqual([end.model, end.version, end.finishReason], ['lm', 2n, FinishReason.FINISH_REASON_LENGTH]);
  assert.deepEqual([end.promptTokens, end.completionTokens], [16, 24]);
  assert.ok(end.queueMs >= 0 && end.firstTokenMs > 0 && end.totalMs >= end.firstTokenMs);
  assert.equal(Buffer.from(text).toString(), text, 'whole characters only');
  assert.deepEqual([end.joules, end.budget, end.tokensKept], [undefined, undefined, []]);

  const again = await live.generate({ ...usual, version: 2n });
  assert.deepEqual(again.ids, ids);
  assert.ok(again.end.cachedTokens <= 16);
  assert.notDeepEqual((await live.generate({ ...usual, version: 1n })).ids, ids);
  const { text: _text, ...rest } = usual;
  assert.deepEqual((await live.generate({ ...rest, tokens: { ids: bytesOf(usual.text) } })).ids, ids);
});

test('the FLOPs of prompts and of drawn tokens are counted by version, as the manifest tells their cost', async () => {
  const counted = (version: number) => live.metric(`heartwood_inference_flops_total{model="lm",version="${version}"}`);
  for (const version of [1, 2]) {
    const before = await counted(version);
    const { end } = await live.generate({
      ...usual,
      text: `version ${version} has not seen this`,
      version: BigInt(version),
    });
    const { flops } = await live.repository.readManifest('lm', version);
    // What an earlier prompt that began alike had computed costs nothing again; nothing is drawn behind the last token.
    const ran = end.promptTokens - end.cachedTokens + end.completionTokens - 1;
    assert.ok(Math.abs(((await counted(version)) - before) / (ran * flops.mean) - 1) < 1e-9);
  }
  assert.ok(
    (await live.repository.readManifest('lm', 2)).flops.mean < (await live.repository.readManifest('lm', 1)).flops.mean,
  );
});

test('echo, stop strings, log-probabilities and the end of a text', async () => {
  const plain = await live.generate({ ...usual, logprobs: 2 });
  const echoed = await live.generate({ ...usual, echo: true });
  assert.equal(echoed.text, `${usual.text}${plain.text}`);
  for (const { tokens } of plain.pieces) {
    for (const { id, logprob, top } of tokens) {
      assert.equal(top.length, 2);
      assert.ok(top[0]!.logprob >= top[1]!.logprob && logprob! <= 0);
      // Greedy draws the likeliest.
      assert.equal(id, top[0]!.id);
    }
  }
  const stop = [...plain.text].slice(3, 5).join('');
  const stopped = await live.generate({ ...usual, stop: ['never there', stop] });
  assert.equal(stopped.text, plain.text.slice(0, plain.text.indexOf(stop)));
  assert.deepEqual([stopped.end.finishReason, stopped.end.stopString], [FinishReason.FINISH_REASON_STOP, stop]);
});

test('the same seed draws the same text, whatever else is generated at the time', async () => {
  const drawn = (seed: number) => ({ ...usual, temperature: 1.2, topP: 0.9, seed: BigInt(seed) });
  const alone = [];
  for (let seed = 0; seed < 6; seed++) alone.push((await live.generate(drawn(seed))).ids);
  assert.equal(new Set(alone.map(String)).size, 6);
  const together = await Promise.all(alone.map((_, seed) => live.generate(drawn(seed))));
  assert.deepEqual(
    together.map(({ ids }) => ids),
    alone,
  );
  assert.equal(together[3]!.end.seed, 3n);
  const { seed, ...unseeded } = drawn(0);
  const free = await live.generate(unseeded);
  assert.deepEqual((await live.generate({ ...unseeded, seed: free.end.seed })).ids, free.ids);
  assert.equal(seed, 0n);
});

test('what cannot be served ends the call with a code and a line that names the field', async () => {
  const bad = (request: DeepPartial<GenerateRequest>, details: RegExp, code = Status.INVALID_ARGUMENT) =>
    refused(live.generate({ ...usual, ...request }), code, details);
  const { text: _text, ...promptless } = usual;
  await refused(live.generate(promptless), Status.INVALID_ARGUMENT, /prompt: missing, expected text or tokens/);
  await refused(live.generate({ ...promptless, tokens: { ids: [] } }), Status.INVALID_ARGUMENT, /prompt/);
  await refused(live.generate({ ...promptless, tokens: { ids: [999] } }), Status.INVALID_ARGUMENT, /token 999/);
  await bad({ model: 'absent' }, /model absent: not in the repository/, Status.NOT_FOUND);
  await bad({ version: 9n }, /version 9 of lm: not in the repository/, Status.NOT_FOUND);
  await bad({ model: 'net' }, /model net: it classifies images, expected a language model/);
  await bad({ text: 'x'.repeat(2 * textContext) }, new RegExp(`${2 * textContext} tokens.*context of ${textContext}`));
  await bad({ maxTokens: 2 * textContext }, new RegExp(`${textContext}`));
  await bad({ maxTokens: 0 }, /max_tokens: 0, expected a whole number, 1 or more$/);
  await bad({ temperature: -1 }, /temperature/);
  await bad({ temperature: NaN }, /temperature/);
  await bad({ temperature: Infinity }, /temperature/);
  await bad({ topP: 0 }, /top_p: [01.5]+, expected a number above 0 and at most 1$/);
  await bad({ topP: 1.5 }, /top_p: [01.5]+, expected a number above 0 and at most 1$/);
  await bad({ repetitionPenalty: 0 }, /repetition_penalty: 0, expected/);
  await bad({ seed: 2n ** 60n }, /seed: expected at most 9007199254740991/);
  await bad({ stop: ['x', ''] }, /stop\[1\]: expected a text of 1 to 1024 characters$/);
  await bad({ stop: Array.from({ length: 17 }, () => 'x') }, /stop: expected at most 16 texts$/);
  await bad({ logprobs: 21 }, /logprobs/);
  await bad({ budget: NaN }, /budget: expected a finite number of nats/);
  await bad({ budget: -1 }, /budget/);
  await bad({ budget: 0.5 }, /budget: 0\.5, expected none: version 2 of lm drops no tokens$/);
  await bad({ version: 1n, budget: 0 }, /budget: 0, expected none: version 1 of lm drops no tokens$/);
  const long = 'x'.repeat(2 * textContext);
  const { end } = await live.generate({ ...usual, text: long, truncate: true, maxTokens: 4 });
  assert.equal(end.promptTokens + 4, textContext);

  const outcome = 'heartwood_inference_requests_total{model="lm",version="2",outcome="INVALID_ARGUMENT"}';
  assert.ok((await live.metric(outcome)) >= 15);
});

test('a cancelled text frees its row, and counts as cancelled', async () => {
  const cancelled = 'heartwood_inference_requests_total{model="lm",version="2",outcome="CANCELLED"}';
  const [before] = [await live.metric(cancelled)];
  const controller = new AbortController();
  const endless = { model: 'lm', text: 'x', ignoreEos: true };
  const read = async () => {
    for await (const { text } of live.serving.generate(endless, { signal: controller.signal })) {
      if (text) controller.abort();
    }
  };
  await assert.rejects(read(), { name: 'AbortError' });
  await until(async () => (await live.metric(`heartwood_model_running_requests${running}`)) === 0);
  await until(async () => (await live.metric(cancelled)) === before + 1);
});

test('a deadline ends a text that takes longer', async () => {
  await refused(
    live.generate({ text: 'x', ignoreEos: true, deadlineMs: 20 }),
    Status.DEADLINE_EXCEEDED,
    /timed out before its text ended/,
  );
  await until(async () => (await live.metric(`heartwood_model_running_requests${running}`)) === 0);
});

test('a reader that does not read holds nobody up, and misses nothing', async () => {
  const request = { model: 'lm', text: 'slow', ignoreEos: true, maxTokens: 600 };
  const slow = live.serving.generate(request)[Symbol.asyncIterator]();
  const first = await slow.next();
  // The others come to their ends, and the slow one's row is free, before it reads on.
  await Promise.all(Array.from({ length: 4 }, (_, i) => live.generate({ ...usual, text: `quick ${i}` })));
  await until(async () => (await live.metric(`heartwood_model_running_requests${running}`)) === 0);
  let text = first.value?.text?.text ?? '';
  for (let next = await slow.next(); next.done !== true; next = await slow.next()) text += next.value.text?.text ?? '';
  assert.equal(text, (await live.generate(request)).text);
});

test('metrics tell of texts by version', async () => {
  const of = (name: string, labels = '') =>
    live.metric(`heartwood_generation_${name}{model="lm",version="1"${labels}}`);
  const [tokens, texts, gaps] = await Promise.all([
    of('tokens_total', ',phase="decode"'),
    of('first_token_seconds_count'),
    of('inter_token_seconds_count'),
  ]);
  await live.generate({ ...usual, version: 1n, text: 'quite another prompt' });
  // The last token that is drawn need not go through the model.
  assert.equal((await of('tokens_total', ',phase="decode"')) - tokens, 23);
  assert.equal((await of('first_token_seconds_count')) - texts, 1);
  assert.equal((await of('inter_token_seconds_count')) - gaps, 23);
  assert.ok((await of('finished_total', ',reason="length"')) >= 1);
  assert.ok((await of('compute_seconds_total', ',phase="prefill"')) > 0);
  assert.equal(await of('cache_tokens'), 16 * textContext);
  const total = 'heartwood_inference_duration_seconds_count{model="lm",version="1",phase="total"}';
  assert.ok((await live.metric(total)) >= 1);
});
