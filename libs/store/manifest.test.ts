import assert from 'node:assert/strict';
import { test } from 'node:test';
import { HeartwoodError } from '../errors/error.js';
import { checkManifest, parseManifest, readManifestFile } from './manifest.js';
import { sampleDraft } from './testing/versions.js';

const whole = (overrides: object = {}) => ({
  schema: 1,
  model: 'vit',
  version: 2,
  createdAt: '2026-01-02T03:04:05.000Z',
  files: { 'model.onnx': '0'.repeat(64) },
  ...sampleDraft({ parent: 1 }),
  ...overrides,
});

function message(overrides: object): string {
  try {
    checkManifest(whole(overrides), 'x/heartwood.json');
  } catch (error) {
    assert.ok(error instanceof HeartwoodError && error.code === 'INVALID_ARGUMENT');
    assert.ok(!error.message.includes('\n'));
    return error.message;
  }
  return 'accepted';
}

test('a whole manifest is read back as it was written', () => {
  const written = whole({ plan: { units: [1, 2, { three: [0.1] }] }, budget: { default: 0.05, ceiling: 1 } });
  assert.deepEqual(parseManifest(JSON.stringify(written), 'f'), written);
});

test('a message names the file, the field and what was expected', () => {
  assert.match(message({ model: undefined }), /^x\/heartwood\.json: model: .*expected string/);
  assert.match(
    message({ flops: { dense: 1, mean: 1, segments: [{ constant: 0, linear: 'x', quadratic: 0 }] } }),
    /flops\.segments\[0\]\.linear/,
  );
  assert.match(message({ files: { '../x': '0'.repeat(64) } }), /files.*plain file name/);
  assert.match(message({ files: { 'model.onnx': 'short' } }), /files\.model\.onnx: .*SHA-256/);
  assert.match(message({ parent: 2 }), /parent: expected a version older than 2/);
  assert.match(message({ tokens: { total: 5, special: 1, stages: [1] } }), /flops\.segments: expected 2 segments/);
  assert.match(message({ budget: { default: -1, ceiling: 1 } }), /budget\.default/);
  assert.match(message({ budget: { default: 2, ceiling: 1 } }), /budget\.default: expected at most the ceiling/);
  assert.match(message({ schema: 2 }), /schema/);
  assert.equal(message({}), 'accepted');
});

test('text that is no JSON, and a missing file, are told apart', async () => {
  assert.throws(
    () => parseManifest('{"schema": 1,', 'dir/heartwood.json'),
    /^HeartwoodError: dir\/heartwood\.json: expected JSON/,
  );
  await assert.rejects(
    readManifestFile('/nonexistent/heartwood.json'),
    (error: HeartwoodError) => error.code === 'NOT_FOUND',
  );
});
