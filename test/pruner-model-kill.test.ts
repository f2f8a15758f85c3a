/** A real pruning job over gRPC: the pruner is killed with SIGKILL in the middle of its stages, started again, and ends in the same version. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { openRepository } from '../libs/store/repository.js';
import { connectPruning, JobState, type Job } from '../services/pruner/client.js';

const main = fileURLToPath(new URL('../services/cli/main.js', import.meta.url));
const model = fileURLToPath(new URL('../../models/demo-digits', import.meta.url));
let root: string;
before(async () => {
  root = await mkdtemp(join(tmpdir(), 'heartwood-pruner-'));
});
after(() => rm(root, { recursive: true, force: true }));

/** A pruner of its own on this folder, and the port that its log tells. */
async function startPruner(folder: string) {
  const ports = ['--host', '127.0.0.1', '--port', '0', '--metrics-port', '0'];
  const folders = ['--repository', join(folder, 'models'), '--data-directory', join(folder, 'jobs')];
  const child = spawn(process.execPath, [main, 'pruner', ...folders, ...ports], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const exited = once(child, 'exit');
  const port = await new Promise<number>((resolve, reject) => {
    void exited.then(() => reject(new Error('the pruner ended before it was ready')));
    createInterface({ input: child.stderr }).on('line', (line) => {
      const entry = JSON.parse(line) as { event?: string; grpcPort?: number };
      if (entry.event === 'ready') resolve(entry.grpcPort!);
    });
  });
  return { child, exited, client: connectPruning(`127.0.0.1:${port}`) };
}

const wish = {
  modelDirectory: model,
  data: 'demo:digits/validation',
  name: 'digits',
  lossBudget: 0.05,
  units: ['tokens'],
  samples: 240,
  seed: 1,
};

/** Does one job; the pruner is killed once in each of these stages, as soon as that has begun. */
async function job(folder: string, kills: readonly string[]): Promise<{ last: Job; killed: number }> {
  let id: string | undefined;
  for (let killed = 0; ;) {
    const { child, exited, client } = await startPruner(folder);
    let last: Job | undefined;
    let down = false;
    try {
      await client.waitUntilReady(300_000);
      id ??= (await client.create(wish)).id;
      for await (const state of client.watch(id)) {
        last = state;
        if (!state.stages.some(({ name, done }) => name === kills[killed] && done > 0)) continue;
        down = child.kill('SIGKILL');
        break;
      }
    } finally {
      client.close();
      if (!down) child.kill('SIGTERM');
      await exited;
    }
    if (!down) return { last: last!, killed };
    killed++;
  }
}

test('killed in scoring, searching and certifying, a job ends in the same plan and the same files', async () => {
  const whole = await job(join(root, 'alone'), []);
  assert.equal(whole.last.state, JobState.JOB_STATE_SUCCEEDED, whole.last.error?.message);
  const resumed = await job(join(root, 'killed'), ['score', 'search', 'certify']);
  assert.equal(resumed.last.state, JobState.JOB_STATE_SUCCEEDED, resumed.last.error?.message);
  assert.equal(resumed.killed, 3);
  const manifestOf = async (folder: string) =>
    (await openRepository(join(root, folder, 'models'))).readManifest('digits', 2);
  const [one, other] = [await manifestOf('alone'), await manifestOf('killed')];
  assert.deepEqual(other.plan, one.plan);
  assert.deepEqual(other.files, one.files);
});
