import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Worker } from 'node:worker_threads';
import type { EncodingReply } from '../generation/encoding-thread.js';
import { joinBytes } from '../open-inference/tensor-codec.js';
import { type TextServer, textServer } from '../testing/text-server.js';

/** What the threads that began since then have answered. */
const replies: EncodingReply[] = [];
const watch = (worker: Worker): void => void worker.on('message', (reply: EncodingReply) => replies.push(reply));
/** Tokens of the texts that were encoded beside the event loop. */
const encodedAside = () => replies.flatMap((reply) => (reply.kind === 'tokens' ? [reply.ids.length] : []));

let live: TextServer;
before(async () => {
  live = await textServer();
  process.on('worker', watch);
});
after(async () => {
  process.off('worker', watch);
  await live.stop();
});

test('a long prompt that comes over the wire is encoded by the thread for that, a short one in place', async () => {
  const usual = { maxTokens: 2, ignoreEos: true };
  await live.generate({ ...usual, text: 'x'.repeat(100) });
  assert.deepEqual(encodedAside(), []);
  const { end } = await live.generate({ ...usual, text: 'x'.repeat(700) });
  assert.deepEqual([end.promptTokens, encodedAside()], [700, [700]]);
});

test('and so is one in the tensors of the Open Inference Protocol', async () => {
  const before = encodedAside().length;
  await live.raw.modelInfer({
    modelName: 'lm',
    modelVersion: '1',
    inputs: [{ name: 'text_input', datatype: 'BYTES', shape: [1n] }],
    rawInputContents: [joinBytes([Buffer.from('x'.repeat(800))])],
    parameters: { max_tokens: { int64Param: 2n } },
  });
  assert.deepEqual(encodedAside().slice(before), [800]);
});
