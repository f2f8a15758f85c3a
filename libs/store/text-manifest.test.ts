import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HeartwoodError } from '../errors/error.js';
import { checkManifest, imageManifest, type Manifest, parseManifest, textManifest } from './manifest.js';
import { sampleDraft, sampleTextDraft } from './testing/versions.js';
import { renderTritonConfig } from './triton-config.js';

const facts = {
  schema: 1,
  model: 'pythia',
  version: 1,
  createdAt: '2026-01-02T03:04:05.000Z',
  files: { 'model.onnx': '0'.repeat(64), 'tokenizer.json': '1'.repeat(64) },
};
const text = (part: object = {}, rest: object = {}) => ({
  ...facts,
  ...sampleTextDraft(),
  ...rest,
  text: { ...sampleTextDraft().text, ...part },
});

function message(manifest: object): string {
  try {
    checkManifest(manifest, 'x/heartwood.json');
  } catch (error) {
    assert.ok(error instanceof HeartwoodError && error.code === 'INVALID_ARGUMENT');
    return error.message;
  }
  return 'accepted';
}

test('a language model’s manifest is read back as it was written, and known by its task', () => {
  const written = text({ defaults: { temperature: 0.7, topK: 40 } }, { perplexity: { dense: 12.5, pruned: 13 } });
  const read = parseManifest(JSON.stringify(written), 'f');
  assert.deepEqual(read, written);
  assert.equal(textManifest(read).text.context, 32);
  assert.throws(() => imageManifest(read), { code: 'INVALID_ARGUMENT', message: /expected an image classifier/ });
});

test('a manifest without a task is an image classifier’s', () => {
  const { task: _task, ...untold } = sampleDraft();
  const read = parseManifest(JSON.stringify({ ...facts, ...untold }), 'f');
  assert.equal(imageManifest(read).labels.length, 2);
  assert.throws(() => textManifest(read), { message: /expected a language model/ });
});

test('what does not fit together is named', () => {
  assert.match(message(text({ tokenizer: 'other.json' })), /text\.tokenizer: expected one of the files/);
  assert.match(message(text({ tokenizer: '../tokenizer.json' })), /text\.tokenizer: .*plain file name/);
  assert.match(message(text({ eos: [64] })), /text\.eos\[0\]: expected a token below 64, got 64/);
  assert.match(message(text({ bos: 99 })), /text\.bos: expected a token below 64/);
  assert.match(message(text({ caches: [] })), /text\.caches/);
  assert.match(message(text({ caches: [{ heads: 0, width: 8 }] })), /text\.caches\[0\]\.heads/);
  assert.match(message(text({ defaults: { temperature: -1 } })), /text\.defaults\.temperature/);
  assert.match(message(text({ stages: [2] })), /flops\.segments: expected 2 segments|text\.stages/);
  const segments = [...sampleTextDraft().flops.segments, ...sampleTextDraft().flops.segments];
  const flops = { ...sampleTextDraft().flops, segments };
  assert.match(message(text({ stages: [2] }, { flops })), /text\.stages\[0\]: expected ascending blocks from 1 to 1/);
  assert.equal(message(text({ stages: [1] }, { flops })), 'accepted');
  assert.match(message({ ...text(), task: 'translation' }), /task/);
});

test('config.pbtxt says the tensors of Triton’s LLM backends, and that answers are decoupled', () => {
  const manifest = text() as unknown as Manifest;
  const config = renderTritonConfig('pythia', [manifest]);
  assert.match(config, /^name: "pythia"\nbackend: "heartwood"\nmax_batch_size: 0\n/);
  assert.match(config, /input \{ name: "text_input" data_type: TYPE_STRING dims: \[ 1 \] \}/);
  assert.match(config, /input \{ name: "stream" data_type: TYPE_BOOL dims: \[ 1 \] optional: true \}/);
  assert.match(config, /output \{ name: "text_output" data_type: TYPE_STRING dims: \[ -1 \] \}/);
  assert.match(config, /model_transaction_policy \{ decoupled: true \}/);
  assert.ok(!config.includes('"budget"'));
  const adaptive = { ...manifest, budget: { default: 0.1, ceiling: 1 } };
  assert.match(renderTritonConfig('pythia', [manifest, adaptive]), /name: "budget" data_type: TYPE_FP32/);
});
