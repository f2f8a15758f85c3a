import assert from 'node:assert/strict';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import type { HeartwoodError } from '../errors/error.js';
import { causalSpecOf } from '../models/causal-lm.js';
import { openCheckpoint } from '../models/checkpoint.js';
import { checkpointWeights } from '../models/weights.js';
import { loadGraph } from '../runtime/load-graph.js';
import { createRuntime } from '../runtime/runtime.js';
import type { TensorValue } from '../runtime/tensor.js';
import { textManifest } from '../store/manifest.js';
import { openRepository } from '../store/repository.js';
import { gatesWithout } from './fixed/gates.js';
import { klDivergence, logSoftmax } from './measure/divergence.js';
import type { Plan } from './plan.js';
import { prune } from './prune.js';
import type { PruneRequest } from './request.js';
import { textTask, textTensors } from './tasks/text.js';
import { memoryContext } from './testing/small-model.js';
import { smallDocuments, writeSmallText } from './testing/small-text-model.js';
import { comparePositions, comparisonGraph } from './text/comparison.js';
import { textCost } from './text/cost.js';
import { openTextCalibration } from './text/data.js';
import { gatedNetwork, plainNetwork } from './text/network.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-pruning-text-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});
const model = await writeSmallText(root);
const work = join(root, 'work');
const signal = new AbortController().signal;

const request = (repository: string, more: Partial<PruneRequest> = {}): PruneRequest => ({
  ...model,
  name: 'small',
  repository: join(root, repository),
  lossBudget: 0.1,
  units: [],
  policy: 'curvature',
  loss: 'kl',
  window: 16,
  seed: 3,
  confidence: 0.95,
  ...more,
});

const tokens = (batch: number, positions: number): TensorValue => ({
  type: 'int64',
  dims: [batch, positions],
  data: BigInt64Array.from({ length: batch * positions }, (_, at) => BigInt((at * 37 + 11) % 257)),
});

describe('the parts', () => {
  test('removing heads and neurons is what gates of zero do, and the fused projection loses rows per head', async () => {
    const checkpoint = await openCheckpoint(model.modelDirectory);
    const spec = causalSpecOf(checkpoint);
    const removed = { heads: [[1], [], [0, 3]], neurons: [[], [2, 5, 47], [0]] };
    const replaced = await textTensors(checkpoint, removed);
    const weights = checkpointWeights(checkpoint, replaced);
    assert.deepEqual(
      causalSpecOf(checkpoint, weights).blocks.map(({ heads, neurons }) => [heads, neurons]),
      [
        [3, 48],
        [4, 45],
        [2, 47],
      ],
    );
    const name = 'gpt_neox.layers.2.attention';
    assert.deepEqual(replaced.get(`${name}.query_key_value.weight`)?.dims, [48, 32]);
    assert.deepEqual(replaced.get(`${name}.query_key_value.bias`)?.dims, [48]);
    assert.deepEqual(replaced.get(`${name}.dense.weight`)?.dims, [32, 16]);
    const gated = await loadGraph(runtime, gatedNetwork(checkpoint, 16), work);
    const pruned = await loadGraph(
      runtime,
      plainNetwork(checkpoint, 16, () => weights),
      work,
    );
    const ids = tokens(2, 16);
    const expected = await gated.run({ input_ids: ids, ...gatesWithout(spec.blocks, removed, 2) });
    const actual = await pruned.run({ input_ids: ids });
    const found = actual['final']!.data as Float32Array;
    (expected['final']!.data as Float32Array).forEach((value, at) => {
      assert.ok(Math.abs(value - found[at]!) < 1e-3, `${at}: ${value}, ${found[at]}`);
    });
    assert.ok(textCost(causalSpecOf(checkpoint, weights)).flops < textCost(spec).flops);
    const parameters = [...checkpoint.tensors.values()].reduce(
      (sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1),
      0,
    );
    assert.equal(textCost(spec).parameters, parameters);
    await Promise.all([gated.dispose(), pruned.dispose()]);
  });

  test('a comparison of hidden rows is that of their logits, in JavaScript', async () => {
    const checkpoint = await openCheckpoint(model.modelDirectory);
    const spec = causalSpecOf(checkpoint);
    const session = await loadGraph(runtime, comparisonGraph(spec, checkpointWeights(checkpoint)), work);
    const rows = (seed: number) => Float32Array.from({ length: 5 * 32 }, (_, at) => Math.sin(at * seed + seed));
    const [dense, pruned] = [rows(1.3), rows(1.4)];
    const targets = BigInt64Array.of(4n, 0n, 256n, 17n, 4n);
    const found = await comparePositions(session, spec, dense, pruned, targets);
    const bytes = await readFile(join(model.modelDirectory, 'model.safetensors'));
    const { file: _, offset, length } = checkpoint.tensors.get('embed_out.weight')!;
    const head = new Float32Array(bytes.buffer.slice(bytes.byteOffset + offset, bytes.byteOffset + offset + length));
    const logits = (hidden: Float32Array, row: number) =>
      Float32Array.from({ length: 257 }, (_, v) => {
        let sum = 0;
        for (let d = 0; d < 32; d++) sum += hidden[row * 32 + d]! * head[v * 32 + d]!;
        return sum;
      });
    targets.forEach((target, row) => {
      const logP = logSoftmax(logits(dense, row), 0, 257);
      const logQ = logSoftmax(logits(pruned, row), 0, 257);
      assert.ok(Math.abs(klDivergence(logP, logQ) - found.kl[row]!) < 1e-5);
      assert.ok(Math.abs(-logP[Number(target)]! - found.denseLoss[row]!) < 1e-5);
      assert.ok(Math.abs(-logQ[Number(target)]! - found.prunedLoss[row]!) < 1e-5);
      assert.equal(found.denseRight[row], logP.indexOf(Math.max(...logP)) === Number(target) ? 1 : 0);
    });
    await session.dispose();
  });

  test('no document is in two parts, and gates of one measure nothing', async () => {
    const checkpoint = await openCheckpoint(model.modelDirectory);
    const data = await openTextCalibration(checkpoint, request('parts'));
    const of = (part: readonly number[]) => new Set(part.map((index) => data.dataset.documentOf(index)));
    const [fit, search, certify] = [of(data.parts.fit), of(data.parts.search), of(data.parts.certify)];
    assert.equal(fit.size + search.size + certify.size, 60);
    assert.equal(new Set([...fit, ...search, ...certify]).size, 60);
    const task = textTask({
      request: request('parts'),
      context: memoryContext(runtime, work),
      checkpoint,
      data,
      dense: 1,
    });
    const part = await task.prepare('certify');
    const { losses } = await part.measure(null);
    assert.equal(losses.kl.length, certify.size);
    assert.ok(losses.kl.every((kl) => Math.abs(kl) < 1e-5));
    assert.equal(
      losses.weights!.reduce((a, b) => a + b, 0),
      data.parts.certify.length * 15,
    );
  });
});

const removedBy = new Map<string, string>();
const losses = new Map<string, number>();

describe('a pruning job of a language model', () => {
  test('publishes what it certified by document, with smaller caches', async () => {
    const { version, manifest, directory } = await prune(request('whole'), memoryContext(runtime, work));
    assert.equal(version, 2);
    const { text, deltaLoss, flops, perplexity } = textManifest(manifest);
    const { certificate, removed } = manifest.plan as Plan;
    assert.ok(certificate.bound <= 0.1 && certificate.measured > 0 && certificate.measured <= certificate.bound);
    // Documents that only said how far to go foretell it; those that the order is of do so nearly.
    assert.equal(deltaLoss?.predicted, removed!.measured);
    for (const told of [certificate.predicted, removed!.predicted]) {
      assert.ok(Math.abs(Math.log(told / certificate.measured)) < 0.5, `${told}, measured ${certificate.measured}`);
    }
    assert.equal(deltaLoss?.documents, 27);
    assert.ok(deltaLoss.samples > 27 * 15);
    assert.ok(flops.mean < flops.dense);
    assert.ok(Math.abs(Math.log(perplexity!.pruned / perplexity!.dense) - certificate.crossEntropyRise!) < 1e-9);
    assert.deepEqual(
      text.caches.map(({ heads }) => heads),
      removed!.heads.map((gone) => 4 - gone.length),
    );
    assert.deepEqual(text.eos, [0]);
    const repository = await openRepository(join(root, 'whole'));
    await repository.verify('small', 1);
    await repository.verify('small', 2);
    assert.ok(Object.keys(manifest.files).includes('tokenizer.json'));

    // The artefact is its plan again, bit for bit.
    const rebuilt = join(root, 'rebuilt');
    await mkdir(rebuilt);
    const checkpoint = await openCheckpoint(model.modelDirectory);
    const data = await openTextCalibration(checkpoint, request('whole'));
    const context = memoryContext(runtime, join(root, 'other-work'));
    const task = textTask({ request: request('whole'), context, checkpoint, data, dense: flops.dense });
    await task.write(rebuilt, manifest.plan as Plan, new Map());
    for (const file of Object.keys(manifest.files)) {
      assert.deepEqual(await readFile(join(rebuilt, file)), await readFile(join(directory, file)), file);
    }
  });

  test('the served graph answers as the measured network does', async () => {
    const { manifest, directory } = await (
      await openRepository(join(root, 'whole'))
    )
      .readManifest('small', 2)
      .then(async (manifest) => ({ manifest, directory: join(root, 'whole', 'small', '2') }));
    const checkpoint = await openCheckpoint(model.modelDirectory);
    const { removed } = manifest.plan as Plan;
    const weights = checkpointWeights(checkpoint, await textTensors(checkpoint, removed));
    const measured = await loadGraph(
      runtime,
      plainNetwork(checkpoint, 12, () => weights),
      work,
    );
    const served = await runtime.load(join(directory, 'model.onnx'));
    const spec = causalSpecOf(checkpoint);
    const ids = tokens(1, 12);
    const whole = (data: bigint[]): TensorValue => ({
      type: 'int64',
      dims: [1, data.length],
      data: BigInt64Array.from(data),
    });
    const range = Array.from({ length: 12 }, (_, at) => BigInt(at));
    const feeds: Record<string, TensorValue> = {
      input_ids: ids,
      positions: whole(range),
      wanted: whole(range),
      cached: { type: 'int32', dims: [1, 1], data: Int32Array.of(0) },
    };
    textManifest(manifest).text.caches.forEach(({ heads, width }, block) => {
      for (const side of ['key', 'value']) {
        const data = new Float32Array(heads * 32 * width);
        feeds[`past.${block}.${side}`] = { type: 'float32', dims: [1, heads, 32, width], data };
      }
    });
    const logits = (await served.run(feeds, { outputs: ['logits'] }))['logits']!.data as Float32Array;
    const final = (await measured.run({ input_ids: ids }))['final']!.data as Float32Array;
    const comparison = await loadGraph(runtime, comparisonGraph(spec, checkpointWeights(checkpoint)), work);
    const targets = BigInt64Array.from(range);
    const { prunedLoss } = await comparePositions(comparison, spec, final, final, targets);
    targets.forEach((target, row) => {
      assert.ok(Math.abs(-logSoftmax(logits, row, 257)[Number(target)]! - prunedLoss[row]!) < 1e-3, `position ${row}`);
    });
    await Promise.all([measured.dispose(), served.dispose(), comparison.dispose()]);
  });

  test('killed after any stage and started again, it ends in the same plan, bit for bit', async () => {
    const reference = await (await openRepository(join(root, 'whole'))).readManifest('small', 2);
    const kept = new Map<string, unknown>();
    for (const stage of ['import', 'score', 'predictor', 'plan', 'search', 'certify']) {
      const context = memoryContext(runtime, work, { kept, stopAfter: stage });
      await assert.rejects(prune(request('resumed'), context), new RegExp(`killed after ${stage}`));
      assert.deepEqual(context.computed, [stage]);
    }
    const { manifest } = await prune(request('resumed'), memoryContext(runtime, work, { kept }));
    assert.deepEqual(manifest.plan, reference.plan);
    assert.deepEqual(manifest.files, reference.files);
  });

  for (const bits of [8, 4] as const) {
    test(`${bits} bits of every weight, heads and neurons on top of that, under one budget`, async () => {
      const wish = request('bits', { bits, lossBudget: 0.5 });
      const { manifest, directory } = await prune(wish, memoryContext(runtime, work));
      const { text } = textManifest(manifest);
      const { removed, certificate } = manifest.plan as Plan;
      assert.ok(certificate.bound <= 0.5);
      assert.equal(certificate.predicted, removed!.measured);
      assert.equal(text.bits, bits);
      assert.ok(Object.values(removed!.bits!).every((width) => width === bits));
      assert.ok(removed!.neurons.flat().length > 0);
      const folder = join(root, 'bits', 'small', '1');
      const bytesOf = async (from: string) =>
        textManifest(JSON.parse(await readFile(join(from, 'heartwood.json'), 'utf8'))).text.bytesPerToken!;
      assert.ok((await bytesOf(directory)) < ((bits + 2) / 32) * (await bytesOf(folder)));
      const session = await runtime.load(join(directory, 'model.onnx'));
      await session.dispose();
    });
  }

  test('bits chosen by curvature, with heads and neurons in one budget: the more the budget, the fewer bytes', async () => {
    const bytes: number[] = [];
    for (const lossBudget of [0.02, 0.2]) {
      const wish = request('chosen-bits', { units: ['heads', 'neurons', 'bits'], lossBudget });
      const { manifest } = await prune(wish, memoryContext(runtime, work));
      const { text } = textManifest(manifest);
      const { removed, certificate } = manifest.plan as Plan;
      assert.ok(certificate.bound <= lossBudget);
      assert.ok(Object.keys(removed!.bits!).length > 0 && text.bits! < 32);
      // Of embeddings a token reads a row.
      assert.ok(!('gpt_neox.embed_in.weight' in removed!.bits!));
      bytes.push(text.bytesPerToken!);
    }
    assert.ok(bytes[1]! < bytes[0]!, String(bytes));
  });

  test('bits are refused where FLOPs are asked for', async () => {
    const { lossBudget: _, ...rest } = request('refused-bits', { units: ['bits'] });
    await assert.rejects(
      prune({ ...rest, flopsSaved: 0.2 }, memoryContext(runtime, work)),
      /bits save bytes, and no FLOPs/,
    );
  });

  test('fewer bits that cost more than the budget are refused with what they cost', () =>
    assert.rejects(
      prune(request('refused-bits', { bits: 4, lossBudget: 1e-5, units: ['bits'] }), memoryContext(runtime, work)),
      /loss budget of 0\.00001 nats cannot be certified: .* documents, .*best budget that can be met/,
    ));

  for (const policy of ['curvature', 'taylor', 'magnitude', 'random'] as const) {
    test(`policy ${policy} removes heads and neurons by its own order`, async () => {
      const { lossBudget: _, ...rest } = request('policies');
      const { manifest } = await prune({ ...rest, policy, flopsSaved: 0.2 }, memoryContext(runtime, work));
      const saved = 1 - manifest.flops.mean / manifest.flops.dense;
      assert.ok(saved >= 0.2 && saved < 0.25, `${saved}`);
      const { removed, certificate } = manifest.plan as Plan;
      removedBy.set(policy, JSON.stringify([removed!.heads, removed!.neurons]));
      losses.set(policy, certificate.measured);
    });
  }

  test('the orders differ, and curvature loses the least', () => {
    assert.equal(new Set(removedBy.values()).size, 4);
    assert.equal(losses.get('curvature'), Math.min(...losses.values()), JSON.stringify([...losses]));
  });
});

describe('what cannot be done is said', () => {
  const refused = (more: Partial<PruneRequest>, code: string, expected: RegExp) =>
    assert.rejects(
      prune(request('refused', more), memoryContext(runtime, work, { signal })),
      (error: HeartwoodError) => {
        assert.match(error.message, expected);
        assert.equal(error.code, code);
        return true;
      },
    );

  test('policies of images, and of prompts all but their own', async () => {
    await refused(
      { units: ['tokens'], policy: 'random' },
      'INVALID_ARGUMENT',
      /policy: random, expected curvature, by which the tokens of prompts/,
    );
    await refused(
      { policy: 'tome' },
      'INVALID_ARGUMENT',
      /policy: tome, expected one of curvature, taylor, magnitude, random/,
    );
  });
  test('too few documents: how many are needed', async () => {
    const data = join(root, 'few.txt');
    await writeFile(data, smallDocuments(30).join('\n\n\n'));
    await refused({ data }, 'INVALID_ARGUMENT', /few\.txt: 30 documents of 16 tokens or more, expected 45 or more/);
  });
  test('a budget that saves nothing', () =>
    refused({ lossBudget: 0 }, 'FAILED_PRECONDITION', /budget of 0 nats saves nothing/));
  test('no tokenizer', async () => {
    const bare = join(root, 'bare');
    await cp(model.modelDirectory, bare, { recursive: true });
    await rm(join(bare, 'tokenizer.json'));
    await refused({ modelDirectory: bare }, 'NOT_FOUND', /tokenizer\.json/);
  });
});
