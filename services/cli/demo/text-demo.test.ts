import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { after, test } from 'node:test';
import { permutation, randomFor } from '../../../libs/data/random.js';
import { readTokens } from '../../../libs/data/text/dataset.js';
import { openText } from '../../../libs/data/text/open.js';
import { openTokenizer } from '../../../libs/data/text/tokenizer.js';
import { buildCausalLm } from '../../../libs/models/causal-lm.js';
import { openCheckpoint } from '../../../libs/models/checkpoint.js';
import { writeSmallText } from '../../../libs/pruning/testing/small-text-model.js';
import { loadGraph } from '../../../libs/runtime/load-graph.js';
import { createRuntime } from '../../../libs/runtime/runtime.js';
import { logSoftmax, mean } from '../measure/statistics.js';
import { runTextDemo } from './text-demo.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-text-demo-'));
after(() => rm(root, { recursive: true, force: true }));

test('the demo of text prunes, serves and streams, and its perplexity is that of the checkpoint', async () => {
  const { modelDirectory: model, data } = await writeSmallText(root);
  const context = { stdout: new PassThrough(), stderr: new PassThrough(), signal: new AbortController().signal };
  const [prompts, windows] = [3, 5];
  const { versions, table, prompt, report } = await runTextDemo(
    {
      ...{ model, data, testData: data, lossBudget: 0.2, units: ['heads', 'neurons'], samples: 60 },
      ...{ prompts, windows, seed: 1, output: join(root, 'output') },
    },
    context,
  );
  assert.deepEqual(
    versions.map(({ version, policy }) => `${version} ${policy}`),
    ['1 unpruned', '2 curvature'],
  );
  const [dense, pruned] = versions as [(typeof versions)[0], (typeof versions)[0]];
  // A context of 32: windows of 31, of which the first token is given.
  assert.deepEqual([dense.tokens, pruned.tokens], [windows * 30, windows * 30]);
  assert.equal(prompt.length, 16);
  assert.ok(pruned.certified!.bound <= 0.2 && pruned.flopsSaved > 0);
  assert.ok(dense.deltaLoss === 0 && Math.abs(pruned.deltaLoss) < 1);
  for (const { tokensPerSecond, firstTokenMs } of versions) assert.ok(tokensPerSecond > 0 && firstTokenMs.p50 > 0);
  assert.deepEqual(table.head, ['', 'version 1 (unpruned)', 'version 2 (curvature)']);
  assert.ok(table.rows.some(([what]) => what === 'joules per token'));

  const page = await readFile(report, 'utf8');
  assert.doesNotMatch(page, /<script|https?:\/\/(?!www\.w3\.org)/);
  for (const part of [
    'perplexity of a token',
    'mean KL to the first',
    'Loss against FLOPs',
    'Loss against bytes',
    'Loss by position',
    'What each block kept',
  ])
    assert.ok(page.includes(part), part);

  // The canonical graph on the windows that the seed draws.
  const tokenizer = await openTokenizer(join(model, 'tokenizer.json'));
  const dataset = await openText(data, tokenizer, { positions: 31 });
  const { ids } = await readTokens(dataset, [...Array(dataset.size).keys()]);
  const runtime = createRuntime({ threads: 1 });
  try {
    const { g, logits } = buildCausalLm(await openCheckpoint(model), { lowering: 'canonical', positions: 31 });
    const session = await loadGraph(runtime, g.build([g.named('logits', logits)]), root);
    const found = await session.run({ input_ids: { type: 'int64', dims: [dataset.size, 31], data: ids } });
    const scores = found['logits']!.data as Float32Array;
    const losses = Array.from({ length: dataset.size }, (_, row) =>
      mean(
        Array.from({ length: 30 }, (_, at) => {
          const place = row * 31 + at;
          return -logSoftmax(scores, place, 257)[Number(ids[place + 1])]!;
        }),
      ),
    );
    const drawn = [...permutation(dataset.size, randomFor(1, dataset.size)).slice(0, windows)];
    const expected = mean(drawn.map((index) => losses[index]!));
    assert.ok(Math.abs(dense.loss - expected) < 1e-3, `${dense.loss} ${expected}`);
    assert.ok(Math.abs(dense.perplexity - Math.exp(expected)) < 1e-3 * dense.perplexity);
  } finally {
    await runtime.close();
  }
});
