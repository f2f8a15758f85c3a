import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { promisify } from 'node:util';
import { loadGraph } from '../runtime/load-graph.js';
import { createRuntime } from '../runtime/runtime.js';
import { buildCausalLm } from './causal-lm.js';
import { asFloat32, openCheckpoint } from './checkpoint.js';
import { writeRandomCausalLm, type RandomCausalShape } from './testing/random-causal.js';

const root = await mkdtemp(join(tmpdir(), 'heartwood-transformers-'));
const runtime = createRuntime({ workers: 1, threads: 1 });
after(async () => {
  await runtime.close();
  await rm(root, { recursive: true, force: true });
});
const run = promisify(execFile);

const base: RandomCausalShape = { hidden: 48, layers: 2, heads: 3, intermediate: 56, vocabulary: 61, context: 40 };
const variants: Record<string, Partial<RandomCausalShape>> = {
  'as Pythia': {},
  'sequential residual': { parallelResidual: false },
  'tied embeddings': { tied: true },
  'the fields before rope_parameters': { rotaryFields: 'old', rotaryShare: 0.5, rotaryBase: 300 },
  'the tanh approximation': { activation: 'gelu_new' },
  'no biases in attention': { attentionBias: false },
  'float16 in shards': { type: 'float16', shards: 2 },
  bfloat16: { type: 'bfloat16' },
};

/** Prints the logits of every folder for the same ids, computed in float32. */
const script = `
import json, sys, torch
from transformers import AutoModelForCausalLM
ids, *folders = sys.argv[1:]
ids = torch.tensor([json.loads(ids)])
answers = []
for folder in folders:
    model = AutoModelForCausalLM.from_pretrained(folder).float().eval()
    with torch.no_grad(): answers.append(model(input_ids=ids).logits.flatten().tolist())
print(json.dumps(answers))
`;

test('answers as the python package transformers does', async (context) => {
  const found = await run('python3', ['-c', 'import torch, transformers']).then(
    () => true,
    () => false,
  );
  if (!found) return context.skip('python3 has no torch and transformers');
  const ids = Array.from({ length: 23 }, (_, i) => (i * i * 5 + 3) % base.vocabulary);
  const names = Object.keys(variants);
  const folders: string[] = [];
  for (const [i, name] of names.entries()) {
    folders.push(await writeRandomCausalLm(join(root, `model-${i}`), { ...base, ...variants[name], seed: 100 + i }));
  }
  const { stdout } = await run('python3', ['-c', script, JSON.stringify(ids), ...folders], { maxBuffer: 1 << 26 });
  const answers = JSON.parse(stdout) as number[][];
  for (const [i, folder] of folders.entries()) {
    const checkpoint = await asFloat32(await openCheckpoint(folder), root);
    for (const lowering of ['canonical', 'fused'] as const) {
      const { g, logits } = buildCausalLm(checkpoint, { lowering, positions: ids.length, batch: 1 });
      const session = await loadGraph(runtime, g.build([g.named('logits', logits)]), root);
      const data = BigInt64Array.from(ids, (id) => BigInt(id));
      const own = (await session.run({ input_ids: { type: 'int64', dims: [1, ids.length], data } }))['logits']!;
      await session.dispose();
      const worst = answers[i]!.reduce((w, v, at) => Math.max(w, Math.abs(v - (own.data as Float32Array)[at]!)), 0);
      assert.equal(own.data.length, answers[i]!.length);
      assert.ok(worst < 1e-4, `${names[i]}, ${lowering}: ${worst} apart`);
    }
  }
});
