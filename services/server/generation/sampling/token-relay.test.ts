import assert from 'node:assert/strict';
import { test } from 'node:test';
import { randomFor } from '../../../../libs/data/random.js';
import type { TensorValue } from '../../../../libs/runtime/tensor.js';
import { greedy, type Sampling } from '../request.js';
import { logprobsOf } from './logprobs.js';
import type { PromptMessage, RelayedTokens, SamplerTerms, TokenMessage } from './relayed-tokens.js';
import { Sampler } from './sampler.js';
import { openRelay } from './token-relay.js';

const vocabulary = 20;
const random = randomFor(3);
const row = (): Float32Array => Float32Array.from({ length: vocabulary }, () => random.next() / 2 ** 29);

/** A relay, and runs of a model that answers with these logits. */
function relayed() {
  const relay = openRelay();
  return (message: TokenMessage, logits: readonly Float32Array[], requests = 1) => {
    const fed = relay.before(message)['input_ids']!;
    const data = Float32Array.from(logits.flatMap((each) => [...each]));
    const dims = [requests, logits.length / requests, vocabulary];
    const lengths: TensorValue = { type: 'int32', dims: [requests, 1], data: new Int32Array(requests).fill(7) };
    const told = relay.after(message, { logits: { type: 'float32', dims, data }, cached_after: lengths });
    return { ids: [...(fed.data as BigInt64Array)].map(Number), dims: fed.dims, ...(told as RelayedTokens) };
  };
}

const sampled: Sampling = { temperature: 1.2, topK: 5, topP: 0.9, repetitionPenalty: 1.3 };
const terms = (seed: number, change: Partial<SamplerTerms> = {}): SamplerTerms => {
  return { sampling: sampled, seed, top: 2, seen: [1, 2, 3], ...change };
};
const prompt = (request: number, change: Partial<PromptMessage> = {}): PromptMessage => {
  return { kind: 'prompt', request, ids: [1, 2, 3], decoding: [], ...change };
};

test('each request draws as its sampler alone, and the next run is fed what was drawn', () => {
  const run = relayed();
  const alone = [8, 9].map((seed) => new Sampler(sampled, seed, [1, 2, 3], 2));
  const drawn = alone.map((sampler, index) => {
    const logits = row();
    const first = run(prompt(index, { sampler: terms(8 + index), decoding: [0] }), [logits]);
    assert.deepEqual(
      [first.ids, first.dims],
      [
        [1, 2, 3],
        [1, 3],
      ],
    );
    const expected = sampler.next(logits.slice());
    assert.deepEqual(first.drawn, [expected]);
    return expected.id;
  });
  let last = drawn;
  for (let step = 0; step < 20; step++) {
    // Rows change places when somebody leaves.
    const order = step % 2 ? [0, 1] : [1, 0];
    const logits = order.map(row);
    const found = run({ kind: 'draw', requests: order }, logits, 2);
    assert.deepEqual(
      [found.ids, found.dims, found.lengths],
      [order.map((request) => last[request]), [2, 1], [[7], [7]]],
    );
    const expected = order.map((request, index) => alone[request]!.next(logits[index]!.slice()));
    assert.deepEqual(found.drawn, expected);
    last = [0, 1].map((request) => expected[order.indexOf(request)]!.id);
  }
});

test('nothing is drawn before the end of a prompt, whose own tokens have their log-probabilities where they are asked for', () => {
  const run = relayed();
  const logits = [row(), row(), row()];
  const { drawn, scored } = run(prompt(1, { scored: { ids: [4, 5, 6], top: 1 } }), logits);
  assert.deepEqual(drawn, []);
  assert.deepEqual(
    scored,
    [4, 5, 6].map((id, index) => logprobsOf(logits[index]!, id, 1)),
  );
  // Behind the last there is none yet.
  const last = run(prompt(1, { scored: { ids: [5, 6], top: 1 }, sampler: terms(1) }), logits);
  assert.deepEqual([last.drawn.length, last.scored.length], [1, 2]);
});

test('logits that are no numbers are an error of their request alone', () => {
  const run = relayed();
  const likeliest = { sampler: terms(1, { sampling: greedy, top: undefined, seen: [] }) };
  for (const request of [1, 2]) run(prompt(request, { ...likeliest, decoding: [1] }), [row()]);
  const nothing = new Float32Array(vocabulary).fill(NaN);
  const [one, other] = [Float32Array.from(row(), (_, id) => (id === 11 ? 9 : 0)), row()];
  const { drawn } = run({ kind: 'draw', requests: [1, 2] }, [one, nothing], 2);
  assert.deepEqual(drawn, [{ id: 11 }, { error: 'the logits of the model are not numbers' }]);
  // A run that was asked for ahead has a row of it still.
  const ahead = run({ kind: 'draw', requests: [1, 2] }, [one, other], 2);
  assert.deepEqual([ahead.ids, ahead.drawn], [[11, 0], drawn]);
});

test('who is in a run no more is forgotten', () => {
  const run = relayed();
  for (const request of [1, 2]) run(prompt(request, { sampler: terms(request), decoding: [1] }), [row()]);
  run({ kind: 'draw', requests: [2] }, [row()]);
  const { drawn } = run({ kind: 'draw', requests: [1, 2] }, [row(), row()], 2);
  assert.deepEqual(drawn[0], { error: 'nothing was drawn for the request before' });
  assert.ok('id' in drawn[1]!);
});

test('a text of one token is forgotten with the prompt of the next, though no run over drawn tokens follows', () => {
  const run = relayed();
  for (const request of [1, 2, 3]) run(prompt(request, { sampler: terms(request), decoding: [1] }), [row()]);
  const { drawn } = run({ kind: 'draw', requests: [1, 2, 3] }, [row(), row(), row()], 3);
  assert.deepEqual(
    drawn.map((each) => 'id' in each),
    [true, false, true],
  );
});
