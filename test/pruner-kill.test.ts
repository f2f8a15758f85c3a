import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { after, afterEach, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { uniformInt } from 'pure-rand/distribution/uniformInt';
import { xoroshiro128plus } from 'pure-rand/generator/xoroshiro128plus';
import { openRepository } from '../libs/store/repository.js';
import { freePort } from '../libs/store/testing/free-port.js';
import { findPostgresql, startPostgresql } from '../libs/store/testing/postgresql.js';
import { connectPruning, type Job, JobState } from '../services/pruner/client.js';
import type { PrunerOptions } from '../services/pruner/options.js';

const SIZE = 60;
/** Steps of the work: rows drawn, iterations, the plan, and two around publishing. */
const STEPS = SIZE + 2 * SIZE + 1 + 2;
const root = mkdtempSync(join(tmpdir(), 'heartwood-kill-'));
const model = join(root, 'tiny-vit');
mkdirSync(model);
writeFileSync(join(model, 'config.json'), '{}');
const program = fileURLToPath(new URL('../services/pruner/testing/pruner-process.js', import.meta.url));
const living = new Set<ChildProcess>();
afterEach(() => {
  for (const child of living) child.kill('SIGKILL');
});
after(() => rmSync(root, { recursive: true, force: true }));

/** A pruner in a process of its own, and what it printed: a line for every step of its work. */
class PrunerProcess {
  readonly child: ChildProcess;
  readonly steps: string[] = [];
  readonly ready: Promise<void>;
  /** Called at every step, while the child goes on. */
  onStep: () => void = () => undefined;

  /** @param last the step that it never gets beyond; undefined: it does all of them */
  constructor(options: PrunerOptions, last?: string) {
    const given = [JSON.stringify(options), ...(last === undefined ? [] : [last])];
    this.child = spawn(process.execPath, [program, ...given], { stdio: ['ignore', 'pipe', 'inherit'] });
    living.add(this.child);
    this.child.once('close', () => living.delete(this.child));
    const lines = createInterface({ input: this.child.stdout! });
    this.ready = new Promise((resolve, reject) => {
      this.child.once('close', () => reject(new Error('the pruner ended before it was ready')));
      lines.on('line', (line) => {
        if (line === 'ready') return resolve();
        this.steps.push(line);
        this.onStep();
      });
    });
    this.ready.catch(() => undefined);
  }

  async end(signal: NodeJS.Signals): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const closed = once(this.child, 'close');
    this.child.kill(signal);
    await closed;
  }
}

async function optionsFor(name: string, database?: string): Promise<PrunerOptions> {
  return {
    repository: join(root, name, 'repository'),
    dataDirectory: join(root, name, 'data'),
    host: '127.0.0.1',
    port: await freePort(),
    metricsPort: 0,
    heartbeatMs: 20,
    pollMs: 50,
    // Of a server's jobs a dead worker's lease must run out first.
    leaseSeconds: 1,
    logLevel: 'silent',
    ...(database ? { database } : {}),
  };
}

const wish = { modelDirectory: model, data: 'demo:digits', lossBudget: 0.05, samples: SIZE, seed: 11 };

async function finished(jobs: AsyncIterable<Job>): Promise<Job> {
  let job: Job | undefined;
  for await (job of jobs);
  return job!;
}

/** The plan of a job as text, and the versions of its model. */
async function outcome(options: PrunerOptions, job: Job) {
  assert.equal(job.state, JobState.JOB_STATE_SUCCEEDED, job.error?.message);
  const repository = await openRepository(options.repository);
  const { name, version } = job.result!;
  const manifest = await repository.verify(name, version);
  return { job, plan: JSON.stringify(manifest.plan), versions: await repository.listVersions(name) };
}

/** A kill comes a little after the step that calls for it; `last` is a later one, beyond which that life never gets, however late the kill is. */
interface Death {
  readonly step: string;
  readonly last: string;
}

/**
 * Runs a job to its end, killing the pruner at the given step of each of its lives, with one client that watches all along; then, in
 * the last life, the same job again undisturbed.
 */
async function killed(name: string, deaths: readonly Death[], database?: string) {
  const options = await optionsFor(name, database);
  const client = connectPruning(`127.0.0.1:${options.port}`);
  const lives: string[][] = [];
  const born = () => new PrunerProcess(options, deaths[lives.length]?.last);
  let pruner = born();
  await pruner.ready;
  const { id } = await client.create(wish, 'disturbed');
  const watched = finished(client.watch(id, { patienceMs: 300_000 }));
  // It is awaited below; until then its failure is not to count as unhandled.
  watched.catch(() => undefined);
  for (const { step } of deaths) {
    await new Promise<void>((resolve) => {
      pruner.onStep = () => void (pruner.steps.includes(step) && resolve());
      pruner.onStep();
    });
    await pruner.end('SIGKILL');
    lives.push(pruner.steps);
    pruner = born();
    await pruner.ready;
    await client.waitUntilReady(300_000);
    assert.equal((await client.create(wish, 'disturbed')).id, id, 'creating it again changes nothing');
  }
  const disturbed = await outcome(options, await watched);
  lives.push(pruner.steps.splice(0));
  const calm = await client.create({ ...wish, name: 'calm' }, 'calm');
  const undisturbed = await outcome(options, await finished(client.watch(calm.id)));
  assert.equal(pruner.steps.length, STEPS);
  client.close();
  await pruner.end('SIGTERM');
  assert.equal(pruner.child.exitCode, 0, 'SIGTERM ends it in order');
  assert.deepEqual(readdirSync(join(options.dataDirectory, 'jobs')), [], 'nothing is left of the jobs');
  return { lives, disturbed, undisturbed };
}

const binaries = findPostgresql();
for (const kind of ['embedded', 'postgresql'] as const) {
  const skip = kind === 'postgresql' && !binaries ? 'PostgreSQL is not installed (apt-get install postgresql)' : false;
  test(
    `killed again and again over ${kind}, a job ends in the plan of an undisturbed one, bit for bit`,
    { skip },
    async (context) => {
      const server = kind === 'postgresql' ? await startPostgresql(binaries!) : undefined;
      context.after(() => server?.stop());
      const generator = xoroshiro128plus(kind === 'embedded' ? 5 : 6);
      // Somewhere in two stages, and when the version has just been published but the job does not know it yet.
      const deaths = [
        { step: `draw ${uniformInt(generator, 1, SIZE)}`, last: 'iterate 1' },
        { step: `iterate ${uniformInt(generator, 1, 2 * SIZE)}`, last: 'plan 1' },
        { step: 'write 1', last: 'write 1' },
      ];
      const { lives, disturbed, undisturbed } = await killed(kind, deaths, server?.url);
      assert.equal(disturbed.job.attempts, 1 + deaths.length);
      assert.deepEqual(disturbed.versions, [1], 'published once');
      assert.equal(undisturbed.job.attempts, 1);
      assert.equal(disturbed.plan, undisturbed.plan);
      const drawn = lives.findIndex((steps) => steps.includes('iterate 1'));
      assert.ok(
        lives.slice(drawn + 1).every((steps) => !steps.some((step) => step.startsWith('draw'))),
        'a kept stage is not computed again',
      );
    },
  );
}
