import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { InferParameter } from '../../../proto/gen/open_inference_grpc.js';
import { schedulingParameters } from './parameters.js';

const of = (parameters: Record<string, Partial<InferParameter>>) => schedulingParameters(parameters);

test('priority and timeout are whole numbers; 0 stands for the default', () => {
  assert.deepEqual(of({}), { priority: undefined, timeoutMs: undefined });
  assert.deepEqual(of({ priority: { uint64Param: 3n }, timeout: { int64Param: 2500n } }), {
    priority: 3,
    timeoutMs: 2.5,
  });
  assert.deepEqual(of({ priority: { int64Param: 1n }, timeout: { uint64Param: 1n } }), {
    priority: 1,
    timeoutMs: 0.001,
  });
  assert.deepEqual(of({ priority: { int64Param: 0n }, timeout: { int64Param: 0n } }), of({}));
  // As Triton has it, a priority beyond the lowest is the default.
  assert.equal(of({ priority: { uint64Param: 199n } }).priority, 199);
  assert.equal(of({ priority: { uint64Param: 200n } }).priority, undefined);
  for (const name of ['priority', 'timeout']) {
    for (const bad of [{ int64Param: -1n }, { stringParam: '1' }, { doubleParam: 1 }, { boolParam: true }, {}]) {
      assert.throws(() => of({ [name]: bad }), {
        code: 'INVALID_ARGUMENT',
        message: new RegExp(`^parameter ${name}: `),
      });
    }
  }
});

test('what is reserved is checked, what means nothing here is left alone', () => {
  const ignored = {
    sequence_id: { uint64Param: 7n },
    sequence_start: { boolParam: true },
    sequence_end: { boolParam: false },
    triton_enable_empty_final_response: { boolParam: true },
    headers: { stringParam: 'x' },
    binary_data_output: { boolParam: true },
    mine: { stringParam: 'y' },
    toString: { stringParam: 'z' },
  };
  assert.deepEqual(of(ignored), { priority: undefined, timeoutMs: undefined });
  for (const name of ['sequence_start', 'sequence_end', 'triton_enable_empty_final_response'])
    assert.throws(() => of({ [name]: { int64Param: 1n } }), { code: 'INVALID_ARGUMENT', message: new RegExp(name) });
  assert.throws(() => of({ triton_secret: { boolParam: true } }), {
    code: 'INVALID_ARGUMENT',
    message: /triton_secret/,
  });
});
