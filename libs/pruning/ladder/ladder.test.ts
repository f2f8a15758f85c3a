import assert from 'node:assert/strict';
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { createRuntime } from '../../runtime/runtime.js';
import { imageManifest } from '../../store/manifest.js';
import { openRepository } from '../../store/repository.js';
import { prune } from '../prune.js';
import type { PruneRequest } from '../request.js';
import { memoryContext, writeSmallModel } from '../testing/small-model.js';
import { addLadder } from './add-ladder.js';
import { ladderCounts, ladderText, parseLadder, rungFor } from './counts.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-ladder-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});
const model = await writeSmallModel(root);
const signal = new AbortController().signal;
const work = { workDirectory: join(root, 'work'), signal };

const request = (more: Partial<PruneRequest>): PruneRequest => ({
  ...model,
  name: 'small',
  repository: join(root, 'models'),
  flopsSaved: 0.4,
  units: ['tokens'],
  policy: 'tome',
  loss: 'kl',
  seed: 3,
  confidence: 0.95,
  ...more,
});

describe('counts', () => {
  test('are named, or spread in equal ratios down to an eighth; all tokens are always one', () => {
    assert.deepEqual(ladderCounts({ counts: [16, 48, 48] }, 65), [65, 48, 16]);
    assert.deepEqual(ladderCounts({ rungs: 3 }, 64), [64, 32, 16, 8]);
    assert.deepEqual(ladderCounts({ rungs: 2 }, 17), [17, 6, 4]);
    for (const wish of [{ counts: [3] }, { counts: [66] }, { counts: [4.5] }, { rungs: 0 }, { rungs: 17 }])
      assert.throws(() => ladderCounts(wish, 65), { code: 'INVALID_ARGUMENT', message: /^ladder: / });
  });

  test('are read and written as text', () => {
    for (const text of ['4', '48,32,16']) assert.equal(ladderText(parseLadder(text)), text);
    for (const text of ['', '4,', 'many', '-2', '4,x', '1.5'])
      assert.throws(() => parseLadder(text), { code: 'INVALID_ARGUMENT' }, text);
  });

  test('a rung keeps at least what is to stay, and is the lowest that does', () => {
    const counts = [65, 48, 32, 16];
    const rungs = [65, 49, 48, 47, 33, 32, 17, 16, 4].map((kept) => rungFor(counts, kept));
    assert.deepEqual(rungs, [65, 65, 48, 48, 48, 32, 32, 16, 16]);
  });
});

describe('a ladder of a version', () => {
  test('shares its weights, those that pruning made smaller too, and can be added without a search', async () => {
    const wish = { units: ['tokens', 'heads'], ladder: { counts: [12, 8, 5] } };
    const pruned = await prune(request(wish), memoryContext(runtime, join(root, 'work')));
    const { files, ladder, tokens } = imageManifest(pruned.manifest);
    assert.deepEqual(ladder!.counts, [17, 12, 8, 5]);
    assert.equal(ladder!.stages.length, tokens.stages.length);
    const original = await stat(join(model.modelDirectory, 'model.safetensors'));
    assert.equal((await stat(join(pruned.directory, 'model.safetensors'))).ino, original.ino);
    // One file holds what became smaller, and the pieces hold nothing of it.
    assert.ok('ladder.safetensors' in files);
    // As docs/ladder.md lists them.
    const pieces = Object.keys(files).filter((file) => file.startsWith('ladder'));
    for (const file of pieces) assert.match(file, /^ladder(\.safetensors|-(prefix|\d+-merge|\d+-\d+)\.(onnx|data))$/);
    const largest = Math.max(
      ...(await Promise.all(
        Object.keys(files)
          .filter((file) => /^ladder-.*data$/.test(file))
          .map(async (file) => (await stat(join(pruned.directory, file))).size),
      )),
    );
    assert.ok(largest < (await stat(join(pruned.directory, 'ladder.safetensors'))).size, `${largest} bytes of a piece`);

    const repository = await openRepository(join(root, 'models'));
    const { modelDirectory } = model;
    const added = await addLadder(repository, { modelDirectory, name: 'small', ladder: { counts: [12, 8, 5] } }, work);
    assert.equal(added.version, pruned.version + 1);
    const again = imageManifest(added.manifest);
    assert.deepEqual(again.plan, pruned.manifest.plan);
    assert.deepEqual(again.ladder, ladder);
    assert.deepEqual(again.files, files);
    assert.equal(again.parent, pruned.version);
    await repository.verify('small', added.version);
  });

  test('is refused where there is nothing to climb', async () => {
    const repository = await openRepository(join(root, 'models'));
    const wish = { modelDirectory: model.modelDirectory, name: 'small', ladder: { rungs: 2 } };
    await assert.rejects(addLadder(repository, { ...wish, version: 1 }, work), {
      code: 'INVALID_ARGUMENT',
      message: /version 1 of small: merges no tokens/,
    });
    const context = memoryContext(runtime, join(root, 'work'));
    for (const [more, message] of [
      [{ policy: 'magnitude' }, /policy magnitude does not merge/],
      [{ units: ['heads'] }, /units are without tokens/],
      [{ ladder: { counts: [90, 4] } }, /90 tokens, expected 4 to 17/],
    ] as const)
      await assert.rejects(prune(request({ ladder: { rungs: 2 }, ...more }), context), {
        code: 'INVALID_ARGUMENT',
        message,
      });
  });
});
