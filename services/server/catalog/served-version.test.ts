import assert from 'node:assert/strict';
import { appendFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { createRuntime, type Runtime } from '../../../libs/runtime/runtime.js';
import type { Repository } from '../../../libs/store/repository.js';
import { settingsOf } from '../options.js';
import { asClassifier, loadVersion } from './served-version.js';
import { budgetDraft, budgetModel, meanModel, publishGraph } from '../testing/fixture-models.js';
import { temporaryRepository } from '../testing/temporary-repository.js';

const settings = { ...settingsOf({ repository: 'models' }), instances: 1, warmUpSizes: [] };
let repository: Repository;
let remove: () => Promise<void>;
let runtime: Runtime;
before(async () => {
  ({ repository, remove } = await temporaryRepository());
  runtime = createRuntime({ threads: 1 });
});
after(async () => {
  await runtime.close();
  await remove();
});

const feeds = () => ({ pixel_values: { type: 'float32', dims: [1, 3, 8, 8], data: new Float32Array(192) } }) as const;
const job = () => ({ feeds: feeds(), batch: 1, outputs: ['logits'], signal: new AbortController().signal });

test('a file that was changed after it was published never reaches the runtime', async () => {
  const version = await publishGraph(repository, 'tampered', meanModel());
  const entry = await repository.resolve('tampered', version);
  await appendFile(join(entry.directory, 'model.onnx'), '\0');
  const untouched: Runtime = {
    threads: 1,
    load: () => assert.fail('the runtime was given the file'),
    provider: 'cpu',
    processes: () => new Map(),
    close: () => Promise.resolve(),
  };
  await assert.rejects(loadVersion(repository, untouched, entry, settings), {
    code: 'FAILED_PRECONDITION',
    message: /model\.onnx: expected SHA-256/,
  });
});

test('a graph that does not hold what its manifest promises is refused', async () => {
  const { budget, tokens, flops } = budgetDraft;
  const cases = [
    [meanModel(), { budget: budget ?? null }, /heartwood\.json: budget is given, but model\.onnx has no input budget/],
    [budgetModel(), {}, /budget is null, but model\.onnx has an input budget/],
    [
      meanModel(),
      { ...(tokens && flops ? { tokens, flops } : {}) },
      /tokens\.stages has 2 stages, but model\.onnx has no output tokens_kept/,
    ],
  ] as const;
  for (const [graph, draft, message] of cases) {
    const entry = await repository.resolve('promises', await publishGraph(repository, 'promises', graph, draft));
    await assert.rejects(loadVersion(repository, runtime, entry, settings), { code: 'INVALID_ARGUMENT', message });
  }
});

test('a version that is retired is freed when the requests that hold it have ended, and not before', async () => {
  await publishGraph(repository, 'retiring', meanModel());
  const served = asClassifier(await loadVersion(repository, runtime, await repository.resolve('retiring'), settings));
  let release = (): void => undefined;
  const preprocessing = new Promise<void>((resolve) => (release = resolve));
  const answer = served.hold(async () => {
    await preprocessing;
    return served.scheduler.submit(job());
  });
  const events: string[] = [];
  const retired = served.retire().then(() => events.push('retired'));
  void answer.then(() => events.push('answered'));
  release();
  assert.deepEqual((await answer).outputs['logits']?.dims, [1, 3]);
  await retired;
  assert.deepEqual(events, ['answered', 'retired']);
  await assert.rejects(served.scheduler.submit(job()), { code: 'FAILED_PRECONDITION' });
});
