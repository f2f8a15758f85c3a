/** The demo, whole: pruner and server as processes, a job over gRPC, real images through both versions. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Manifest } from '../libs/store/manifest.js';

const main = fileURLToPath(new URL('../services/cli/main.js', import.meta.url));

async function run(argv: readonly string[]) {
  const child = spawn(process.execPath, [main, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
  const text = { out: '', err: '' };
  child.stdout.on('data', (chunk: Buffer) => (text.out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (text.err += chunk.toString()));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, ...text };
}

test('on the bundled checkpoint', async (t) => {
  const root = await mkdtemp(join(tmpdir(), 'heartwood-demo-'));
  t.after(() => rm(root, { recursive: true, force: true }));
  const output = join(root, 'demo');
  const json = join(root, 'demo.json');
  const { code, out, err } = await run(['demo', '--images', '24', '--output', output, '--json', json]);
  assert.equal(code, 0, err);
  assert.match(out, /accuracy[\s\S]*ΔL bound[\s\S]*FLOPs saved[\s\S]*latency p95[\s\S]*joules/);
  const result = JSON.parse(await readFile(json, 'utf8')) as {
    report: string;
    manifest: Manifest;
    curve: unknown[];
    heads: { values: number[][] };
  };
  const { deltaLoss, method, flops } = result.manifest;
  assert.ok(deltaLoss!.bound <= method!.lossBudget!);
  assert.ok(flops.mean < 0.8 * flops.dense);
  assert.ok(result.curve.length >= 3);
  assert.equal(result.heads.values.length, 6);
  const html = await readFile(result.report, 'utf8');
  assert.ok((await stat(result.report)).size > 50_000);
  assert.doesNotMatch(html, /(src|href)="https?:/, 'the report is self-contained');
});
