import assert from 'node:assert/strict';
import { test } from 'node:test';
import { servedModelFile } from './served-file.js';

test('the file for this processor is run where the version has it', () => {
  const [plain, both] = [{ 'model.onnx': '' }, { 'model.onnx': '', 'model.blocked.onnx': '' }];
  assert.equal(servedModelFile(both, 'x64'), 'model.blocked.onnx');
  assert.equal(servedModelFile(both, 'arm64'), 'model.onnx');
  assert.equal(servedModelFile(plain, 'x64'), 'model.onnx');
});
