import assert from 'node:assert/strict';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { z } from 'zod';
import { createRuntime, type Runtime } from '../../../libs/runtime/runtime.js';
import { imageManifest } from '../../../libs/store/manifest.js';
import { createLogger } from '../../../libs/telemetry/log.js';
import { Catalog } from '../catalog/catalog.js';
import { ServedClassifier } from '../catalog/served-version.js';
import { BatchingScheduler } from '../scheduling/batching.js';
import { schedulingSchema } from '../scheduling/settings.js';
import { publishGraph, tensorMeanModel } from '../testing/fixture-models.js';
import { temporaryRepository } from '../testing/temporary-repository.js';
import { manifestBudget } from './budget.js';
import { Inference } from './inference.js';

const [batch, side] = [2, 64];

describe('the tensors of a call', () => {
  let runtime: Runtime;
  let catalog: Catalog;
  let inference: Inference;
  let remove: () => Promise<void>;

  before(async () => {
    const temporary = await temporaryRepository();
    remove = temporary.remove;
    await publishGraph(temporary.repository, 'net', tensorMeanModel(side));
    runtime = createRuntime({ threads: 1 });
    const settings = z.object(schedulingSchema).parse({});
    catalog = new Catalog(
      temporary.repository,
      async ({ manifest, directory }) => {
        const session = await runtime.load(join(directory, 'model.onnx'));
        return new ServedClassifier(imageManifest(manifest), new BatchingScheduler(session, settings), session);
      },
      { changed: () => undefined },
      createLogger('test', 'silent'),
    );
    await catalog.sync();
    const maker = {
      maxBatch: 8,
      maxImagePixels: 1e6,
      budgets: manifestBudget,
      preprocess: () => Promise.reject(new Error('no image is sent')),
    };
    inference = new Inference(catalog, maker, [], (error) => assert.fail(String(error)));
  });
  after(async () => {
    await catalog.stop();
    await runtime.close();
    await remove();
  });

  /** A call over memory of its own. */
  const callOf = (width: number, value: number, signal = new AbortController().signal) => {
    const data = new Float32Array(batch * 3 * side * width).fill(value);
    const inputs = new Map([
      ['pixel_values', { name: 'pixel_values', datatype: 'FP32', dims: [batch, 3, side, width], data }],
    ]);
    const call = { model: 'net', version: '1', contents: () => ({ inputs, outputs: [] }) };
    return { data, answer: inference.infer(call, signal, ({ outputs }) => outputs[0]?.value.data) };
  };

  test('are freed once they have run, alone or together, and the answers are theirs', async () => {
    const calls = [1, 2, 3, 4].map((value) => callOf(side, value));
    const answers = await Promise.all(calls.map(({ answer }) => answer));
    for (const [at, answer] of answers.entries()) {
      for (const logit of answer as Float32Array) assert.ok(Math.abs(logit - (at + 1)) < 1e-5, `${logit}`);
      assert.equal(calls[at]!.data.length, 0);
    }
  });

  test('are freed when the call fails', async () => {
    const wide = callOf(side + 1, 1);
    await assert.rejects(wide.answer, { code: 'INVALID_ARGUMENT' });
    assert.equal(wide.data.length, 0);
  });

  test('of a call that is given up while others run cost them nothing', async () => {
    const controller = new AbortController();
    const others = [callOf(side, 1), callOf(side, 2)];
    const late = callOf(side, 3, controller.signal);
    const rejected = assert.rejects(late.answer, { code: 'CANCELLED' });
    controller.abort();
    await rejected;
    for (const [at, { answer }] of others.entries()) {
      for (const logit of (await answer) as Float32Array) assert.ok(Math.abs(logit - (at + 1)) < 1e-5, `${logit}`);
    }
  });
});
