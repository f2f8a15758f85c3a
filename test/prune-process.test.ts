/** The main job through real processes: prune from the command line (killed and started again), evaluate. */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { writeSmallModel } from '../libs/pruning/testing/small-model.js';
import type { Manifest } from '../libs/store/manifest.js';

const main = fileURLToPath(new URL('../services/cli/main.js', import.meta.url));
let root: string;
let model: { modelDirectory: string; data: string };
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'heartwood-main-job-'));
  model = await writeSmallModel(root);
});
after(() => rm(root, { recursive: true, force: true }));

function start(argv: readonly string[]) {
  const child = spawn(process.execPath, [main, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
  const text = { out: '', err: '' };
  child.stdout.on('data', (chunk: Buffer) => (text.out += chunk.toString()));
  child.stderr.on('data', (chunk: Buffer) => (text.err += chunk.toString()));
  const ended = once(child, 'close').then(([code, signal]) => ({
    code: code as number | null,
    signal: signal as string | null,
    ...text,
  }));
  return { child, ended };
}

const pruneArguments = (repository: string) => [
  'prune',
  ...['--model', model.modelDirectory, '--data', model.data, '--name', 'small'],
  ...['--repository', repository, '--loss-budget', '0.05', '--units', 'tokens,heads,neurons', '--json', '-'],
];

interface PruneResult {
  readonly version: number;
  readonly manifest: Manifest;
}

test('prune, killed with SIGKILL again and again, ends in the plan of a run that was left alone', async () => {
  const alone = await start(pruneArguments(join(root, 'alone'))).ended;
  assert.equal(alone.code, 0, alone.err);
  assert.equal(alone.err, '', 'silent in a pipe');
  const whole = JSON.parse(alone.out) as PruneResult;

  const repository = join(root, 'killed');
  const jobs = join(repository, '.jobs');
  await mkdir(jobs, { recursive: true });
  let kills = 0;
  for (;;) {
    // Twice in the middle of it: each run starts a process of its own.
    const stages = [2, 4][kills] ?? Infinity;
    const { child, ended } = start(pruneArguments(repository));
    if (await reaches(child, jobs, stages)) child.kill('SIGKILL');
    const { code, signal, out, err } = await ended;
    if (signal === 'SIGKILL') {
      kills++;
      continue;
    }
    assert.equal(code, 0, err);
    const resumed = JSON.parse(out) as PruneResult;
    assert.ok(kills >= 1, 'a kill came in time');
    assert.deepEqual(resumed.manifest.plan, whole.manifest.plan);
    assert.deepEqual(resumed.manifest.files, whole.manifest.files);
    assert.ok(!existsSync(jobs), 'nothing of the job is left');
    break;
  }
});

/** Looks until a process has kept so many stages of its job; false when it has ended before. */
async function reaches(child: ChildProcess, jobs: string, stages: number): Promise<boolean> {
  while (child.exitCode === null && child.signalCode === null) {
    if ((await keptStages(jobs)) >= stages) return true;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return false;
}

async function keptStages(jobs: string): Promise<number> {
  const files = await readdir(jobs, { recursive: true }).catch(() => []);
  return files.filter((name) => name.endsWith('.checkpoint')).length;
}

test('of two processes at the same job one does it and the other says so', async () => {
  const repository = join(root, 'twice');
  const first = start(pruneArguments(repository));
  assert.ok(await reaches(first.child, join(repository, '.jobs'), 1));
  // It stands still at its job until the other one has come.
  first.child.kill('SIGSTOP');
  const refused = await start(pruneArguments(repository)).ended;
  first.child.kill('SIGCONT');
  const done = await first.ended;
  assert.equal(done.code, 0, done.err);
  assert.equal(refused.code, 1, 'the first one was at work still');
  assert.match(refused.err, /^heartwood: [^\n]*: another process is at the same job\n$/);
});

test('evaluate and compare read what prune published', async () => {
  const measured = ['--repository', join(root, 'alone'), '--name', 'small', '--data', model.data, '--json', '-'];
  const { code, out, err } = await start(['evaluate', ...measured]).ended;
  assert.equal(code, 0, err);
  const { versions } = JSON.parse(out) as { versions: { version: number; kl: number; flopsSaved: number }[] };
  assert.deepEqual(
    versions.map(({ version }) => version),
    [1, 2],
  );
  assert.ok(versions[1]!.kl > 0 && versions[1]!.kl < 0.05 && versions[1]!.flopsSaved > 0);
  const compared = await start(['compare', ...measured, '--versions', '1,2', '--samples', '16']).ended;
  assert.equal(compared.code, 0, compared.err);
});

test('a refusal says what could be met, with exit code 1, and leaves no version', async () => {
  const repository = join(root, 'refused');
  const argv = [
    'prune',
    '--model',
    model.modelDirectory,
    '--data',
    model.data,
    '--name',
    'small',
    '--repository',
    repository,
  ];
  const refused = await start([...argv, '--flops-saved', '0.99']).ended;
  assert.equal(refused.code, 1);
  assert.match(
    refused.err,
    /^heartwood: a share of 0\.99 of the FLOPs cannot be saved; the most that can is 0\.\d+\n$/,
  );
  assert.deepEqual(
    (await readdir(join(repository, 'small'))).filter((name) => /^\d+$/.test(name)),
    ['1'],
  );
});
