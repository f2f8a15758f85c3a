import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, before, describe, test } from 'node:test';
import { HeartwoodError } from '../../errors/error.js';
import type { Database } from '../database/database.js';
import { openPostgresql } from '../database/postgresql.js';
import { findPostgresql, startPostgresql, type TestPostgresql } from '../testing/postgresql.js';
import { DatabaseCheckpoints } from './checkpoints.js';
import { ShardRefused } from './held-shard.js';
import { JobQueue } from './job-queue.js';
import type { JobContext } from './job-run.js';
import { Jobs, type OpenJobsOptions } from './jobs.js';
import type { JobRecord } from './job.js';
import type { ShardEnd } from './shared-task.js';
import { ShardStore } from './shard-store.js';

const root = mkdtempSync(join(tmpdir(), 'heartwood-shards-'));
after(() => rmSync(root, { recursive: true, force: true }));
const binaries = findPostgresql();
const skip = binaries ? false : 'PostgreSQL is not installed (apt-get install postgresql)';

/** Sums of thirds, whose last bits depend on the order. */
const partOf = (content: unknown) =>
  Float64Array.from({ length: 3 }, (_, at) => ((content as { part: number }).part + 1) / (3 + at));
const contents = Array.from({ length: 9 }, (_, part) => ({ measurement: 'thirds', part }));

/** Work whose result is the sum over its shards, in their order. @param here how the process that holds the job takes a shard */
const summing =
  (here: (content: unknown, signal: AbortSignal) => Promise<unknown>) =>
  (_: unknown, { checkpoint, shared }: JobContext): Promise<unknown> =>
    checkpoint('sum', async () => {
      const sum = new Float64Array(3);
      for await (const part of shared!.run(contents, (at, signal) => here(contents[at], signal)))
        (part as Float64Array).forEach((value, at) => (sum[at]! += value));
      return Buffer.from(sum.buffer).toString('hex');
    });

/** Resolves when it is reached, and holds whoever reaches it until it is released, or told to stop. */
function gate() {
  let reached!: () => void;
  let release!: () => void;
  const arrival = new Promise<void>((resolve) => (reached = resolve));
  const released = new Promise<void>((resolve) => (release = resolve));
  const pass = (signal: AbortSignal) => {
    reached();
    const stopped = new Promise<never>((_, reject) =>
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true }),
    );
    return Promise.race([released, stopped]);
  };
  return { pass, arrival, release };
}

describe('shards of jobs', { skip }, () => {
  let server: TestPostgresql;
  let database: Database;
  let queue: JobQueue;
  const opened: Jobs[] = [];
  before(async () => {
    server = await startPostgresql(binaries!);
    await (await open({})).close();
    opened.length = 0;
    database = await openPostgresql(server.url);
    queue = await JobQueue.start(database, () => undefined);
  });
  afterEach(() => Promise.all(opened.splice(0).map((jobs) => jobs.close())));
  after(async () => {
    await queue.stop();
    await database.close();
    await server.stop();
  });

  let folders = 0;
  async function open(options: Partial<OpenJobsOptions>): Promise<Jobs> {
    const directory = join(root, String(folders++));
    const jobs = await Jobs.open({ directory, database: server.url, heartbeatMs: 20, pollMs: 20, ...options });
    opened.push(jobs);
    return jobs;
  }
  /** A worker that takes shards alone. */
  const worker = (
    take: (content: unknown, signal: AbortSignal) => Promise<unknown>,
    ended: ShardEnd[] = [],
    leaseSeconds = 30,
  ) =>
    open({
      shardWork: { take, rest: () => Promise.resolve() },
      onShard: (shard) => ended.push(shard),
      leaseSeconds,
    });
  async function ending(jobs: Jobs, id: string): Promise<JobRecord> {
    let job: JobRecord | undefined;
    for await (job of jobs.watch(id, new AbortController().signal));
    return job!;
  }
  async function rowsLeft(): Promise<Record<string, number>> {
    const [row] = await database.query<Record<string, number>>(
      `SELECT (SELECT count(*)::integer FROM heartwood.shards) AS shards,
       (SELECT count(*)::integer FROM heartwood.checkpoints) AS results,
       (SELECT count(*)::integer FROM heartwood_queue.job WHERE name = 'heartwood-shard' AND state < 'active') AS messages`,
    );
    return row!;
  }
  const nothing = { shards: 0, results: 0, messages: 0 };
  const counts = (ended: readonly ShardEnd[]) => ended.map(({ outcome }) => outcome);

  test('the same sum, bit for bit, without, with one and with three workers; nothing of it is left', async () => {
    const sums: unknown[] = [];
    for (const others of [0, 1, 3]) {
      const own: number[] = [];
      const taken: ShardEnd[] = [];
      const ready = gate();
      for (let at = 0; at < others; at++) {
        await worker(async (content) => {
          ready.release();
          return partOf(content);
        }, taken);
      }
      // Where there are workers, the pruner waits until one has begun: else it could be done before they look.
      if (others === 0) ready.release();
      const pruner = await open({
        work: summing(async (content, signal) => {
          await ready.pass(signal);
          own.push((content as { part: number }).part);
          return partOf(content);
        }),
      });
      const job = await ending(pruner, (await pruner.create({}, ['sum'])).id);
      assert.equal(job.state, 'succeeded', job.error?.message);
      sums.push(job.result);
      await Promise.all(opened.splice(0).map((jobs) => jobs.close()));
      assert.equal(own.length + taken.length, contents.length, 'each shard once');
      if (others > 0) assert.ok(taken.length > 0);
      assert.deepEqual(await rowsLeft(), nothing);
    }
    assert.equal(new Set(sums).size, 1);
  });

  test('what a dead worker held is taken again, and what it was given back at a stop as well', async () => {
    const first = gate();
    const ended: ShardEnd[] = [];
    const stopping = await worker(async (_, signal) => first.pass(signal), ended);
    const held = gate();
    const pruner = await open({
      work: summing(async (content, signal) => {
        await held.pass(signal);
        return partOf(content);
      }),
    });
    const { id } = await pruner.create({}, ['sum']);
    await Promise.all([first.arrival, held.arrival]);
    opened.splice(opened.indexOf(stopping), 1);
    await stopping.close();
    assert.deepEqual(counts(ended), ['released']);
    // One that dies: its lease ends at once, and nobody renews it.
    const dying = new ShardStore(database, queue, new DatabaseCheckpoints(database), 0, 3);
    const shard = await dying.claim('dead');
    assert.deepEqual([shard?.job, shard?.attempts], [id, 1], 'a shard that was given back was not taken');
    held.release();
    const job = await ending(pruner, id);
    assert.equal(job.state, 'succeeded', job.error?.message);
    assert.equal(await dying.complete(shard!, 'dead', partOf(shard!.content)), false, 'too late');
    for (const jobs of opened.splice(0)) await jobs.close();
    assert.deepEqual(await rowsLeft(), nothing);
  });

  test('a shard that always fails ends the job with its reason, after three attempts', async () => {
    let attempts = 0;
    const pruner = await open({
      work: summing(async (content) => {
        if ((content as { part: number }).part !== 4) return partOf(content);
        attempts++;
        throw new HeartwoodError('INVALID_ARGUMENT', 'photos/cat.jpg: is no image');
      }),
    });
    const job = await ending(pruner, (await pruner.create({}, ['sum'])).id);
    assert.equal(attempts, 3);
    assert.deepEqual(job.error, {
      code: 'INVALID_ARGUMENT',
      message: 'shard 5 of 9 failed 3 times, the last time: photos/cat.jpg: is no image',
    });
    for (const jobs of opened.splice(0)) await jobs.close();
    assert.deepEqual(await rowsLeft(), nothing);
  });

  test('a worker that keeps dying of a shard ends the job too, and says that it died', async () => {
    const held = gate();
    const pruner = await open({ work: summing(async (_, signal) => held.pass(signal)) });
    const { id } = await pruner.create({}, ['sum']);
    await held.arrival;
    const dying = new ShardStore(database, queue, new DatabaseCheckpoints(database), 0, 3);
    const first = (await dying.claim('dead'))!;
    for (let death = 2; death <= 3; death++) {
      await dying.reclaim();
      const again = (await dying.claim('dead'))!;
      assert.deepEqual([again.part, again.attempts], [first.part, death]);
    }
    held.release();
    const job = await ending(pruner, id);
    assert.match(job.error!.message, new RegExp(`shard ${first.part + 1} of 9 failed 3 times, .* its worker died`));
  });

  test('a worker that is not fit for a task refuses it once, and others take it', async () => {
    const ended: ShardEnd[] = [];
    let looked = 0;
    await worker(async () => {
      looked++;
      throw new ShardRefused('models/vit: has the digest 1234… here');
    }, ended);
    const held = gate();
    const taken = gate();
    const pruner = await open({
      work: summing(async (content, signal) => {
        await held.pass(signal);
        return partOf(content);
      }),
    });
    const { id } = await pruner.create({}, ['sum']);
    await held.arrival;
    const fit: ShardEnd[] = [];
    let begun = 0;
    await worker(async (content) => {
      if (++begun === contents.length - 1) taken.release();
      return partOf(content);
    }, fit);
    await taken.pass(new AbortController().signal);
    held.release();
    const job = await ending(pruner, id);
    assert.equal(job.state, 'succeeded', job.error?.message);
    await Promise.all(opened.splice(0).map((jobs) => jobs.close()));
    assert.ok(looked <= 1 && counts(ended).every((outcome) => outcome === 'refused'));
    assert.equal(fit.length, contents.length - 1);
  });

  test('cancelling a job takes its shards out of the queue, and from the hands that have some', async () => {
    const [held, own] = [gate(), gate()];
    const ended: ShardEnd[] = [];
    const other = await worker(async (_, signal) => held.pass(signal), ended, 0.5);
    const pruner = await open({ work: summing(async (_, signal) => own.pass(signal)) });
    const { id } = await pruner.create({}, ['sum']);
    await Promise.all([held.arrival, own.arrival]);
    assert.ok((await rowsLeft())['messages']! > 0);
    assert.equal((await pruner.cancel(id)).state, 'cancelled');
    assert.deepEqual(await rowsLeft(), nothing);
    assert.deepEqual(await other.countShards(), { queued: 0, running: 0, done: 0, failed: 0 });
    // Its lease is not renewed any more, which is how it learns of it: nobody tells it.
    for (const jobs of opened.splice(0)) await jobs.close();
    assert.ok(['lost', 'released'].includes(counts(ended)[0]!));
    assert.deepEqual(await rowsLeft(), nothing);
  });

  test('a job that another process goes on with finds the shards that were done', async () => {
    const first = gate();
    const pruner = await open({
      work: summing(async (content, signal) => {
        if ((content as { part: number }).part === 5) await first.pass(signal);
        return partOf(content);
      }),
    });
    const { id } = await pruner.create({}, ['sum']);
    await first.arrival;
    opened.splice(0);
    await pruner.close();
    const again: number[] = [];
    const second = await open({
      work: summing(async (content) => {
        again.push((content as { part: number }).part);
        return partOf(content);
      }),
    });
    const job = await ending(second, id);
    assert.deepEqual([job.state, job.attempts], ['succeeded', 2]);
    assert.deepEqual(again, [5, 6, 7, 8]);
  });
});
